// The calls themselves: completed after interruptions, inside the tree, behind links.
#include "files/file_system.h"

#include "files/input_file.h"
#include "files/staged.h"
#include "io/fixture.h"

#include <cerrno>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDirectory;

TEST(FileSystem, ShortTransfersAndInterruptionsAreCompleted) {
  ScratchDirectory scratch;
  int calls = 0;
  const FileSystem files([&](FileCall, const std::string&) {
    ++calls;
    return calls % 3 == 0 ? EINTR : FileSystem::kShortTransfer;
  });
  std::string text(1000, 'x');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>('a' + i % 26);
  atomic_write_file(scratch / "f", text, files);
  EXPECT_EQ(testing::slurp(scratch / "f"), text);
  EXPECT_EQ(read_file(scratch / "f", 1000, files), text);
  EXPECT_EQ(sha256_file(scratch / "f", files), sha256_text(text));
  EXPECT_GT(calls, 30);
}

TEST(FileSystem, RemoveTreeStaysInside) {
  ScratchDirectory scratch;
  fs::create_directories(scratch / "outside");
  testing::spill(scratch / "outside/kept", "x");
  fs::create_directories(scratch / "tree/deep");
  testing::spill(scratch / "tree/deep/file", "x");
  fs::create_directory_symlink(scratch / "outside", scratch / "tree/link");
  EXPECT_EQ(FileSystem().remove_tree(scratch / "tree"), 0);
  EXPECT_FALSE(fs::exists(scratch / "tree"));
  EXPECT_TRUE(fs::exists(scratch / "outside/kept"));
}

TEST(FileSystem, BehindALinkIsWhatItLeadsTo) {
  ScratchDirectory scratch;
  fs::create_directory(scratch / "real");
  fs::create_directory_symlink("real", scratch / "link");
  fs::create_symlink("link", scratch / "second");
  fs::create_symlink("nowhere", scratch / "dangling");
  const std::string real = fs::canonical(scratch / "real");
  EXPECT_EQ(behind_link(scratch / "link"), real);
  EXPECT_EQ(behind_link(scratch / "second"), real);
  for (const char* name : {"real", "dangling", "absent", "link/x"}) {
    EXPECT_EQ(behind_link(scratch / name), scratch / name);
  }
}

TEST(FileSystem, BareNamesStayInTheirDirectory) {
  for (const char* name : {"a", "model-00001-of-00002.safetensors", "a b"}) {
    EXPECT_TRUE(is_bare_name(name)) << name;
  }
  for (const std::string name : {"", ".", "..", ".hidden", "a/b", "/a", "a\\b"}) {
    EXPECT_FALSE(is_bare_name(name)) << name;
  }
  EXPECT_FALSE(is_bare_name(std::string_view("a\0b", 3)));
}

}  // namespace
}  // namespace lockstep
