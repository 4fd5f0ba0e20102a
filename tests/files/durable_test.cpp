// Directories and files that are on disk when a call returns: every new level, links, what fails.
#include "files/durable.h"

#include "files/staged.h"
#include "io/fixture.h"

#include <cerrno>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDirectory;

TEST(Durable, MakeDirectoriesNamesWhatItCannotMake) {
  ScratchDirectory scratch;
  make_directories(scratch / "a/b/c");
  make_directories(scratch / "a/b/c/");
  EXPECT_TRUE(fs::is_directory(scratch / "a/b/c"));
  testing::spill(scratch / "file", "x");
  const auto caught = testing::catch_user_error([&] { make_directories(scratch / "file/d"); });
  EXPECT_EQ(caught.code, ExitCode::kIo);
  EXPECT_NE(caught.message.find("/file"), std::string::npos) << caught.message;
}

// Scratch directories are links on every cluster.
TEST(Durable, ALinkToADirectoryIsADirectory) {
  ScratchDirectory scratch;
  fs::create_directory(scratch / "real");
  fs::create_directory_symlink(scratch / "real", scratch / "link");
  EXPECT_EQ(FileSystem().sync_directory(scratch / "link"), 0);
  make_directories(scratch / "link");
  make_directories(scratch / "link/run");
  atomic_write_file(scratch / "link/run/latest", "x");
  EXPECT_EQ(testing::slurp(scratch / "real/run/latest"), "x");
  fs::create_directory_symlink(scratch / "nowhere", scratch / "dangling");
  const auto caught =
      testing::catch_user_error([&] { make_directories(scratch / "dangling/run"); });
  EXPECT_EQ(caught.code, ExitCode::kIo);
  EXPECT_NE(caught.message.find("dangling: is a link to"), std::string::npos) << caught.message;
}

TEST(Durable, EachNewLevelIsSyncedInItsParent) {
  ScratchDirectory scratch;
  std::vector<std::string> synced;
  const FileSystem files([&](FileCall call, const std::string& path) {
    if (call == FileCall::kSync) synced.push_back(path);
    return 0;
  });
  make_directories(scratch / "a/b", files);
  EXPECT_EQ(synced, (std::vector<std::string>{scratch.path(), scratch / "a"}));
}

TEST(Durable, ATreeIsSyncedFromTheLeavesUp) {
  ScratchDirectory scratch;
  fs::create_directory(scratch / "tree");
  testing::spill(scratch / "tree/file", "x");
  std::vector<std::string> synced;
  const FileSystem files([&](FileCall call, const std::string& path) {
    if (call == FileCall::kSync) synced.push_back(path);
    return 0;
  });
  sync_tree(scratch / "tree", files);
  EXPECT_EQ(synced, (std::vector<std::string>{scratch / "tree/file", scratch / "tree"}));
}

TEST(Durable, ANewFileThatCannotBeWrittenIsNotLeft) {
  ScratchDirectory scratch;
  for (const FileCall failing : {FileCall::kWrite, FileCall::kSync, FileCall::kClose}) {
    const FileSystem files(
        [&](FileCall call, const std::string&) { return call == failing ? ENOSPC : 0; });
    const auto caught =
        testing::catch_user_error([&] { write_new_file(scratch / "new", "text", files); });
    EXPECT_EQ(caught.code, ExitCode::kIo);
    EXPECT_TRUE(fs::is_empty(scratch.path()));
  }
  write_new_file(scratch / "new", "text");
  EXPECT_EQ(testing::slurp(scratch / "new"), "text");
  EXPECT_EQ(testing::catch_user_error([&] { write_new_file(scratch / "new", "x"); }).code,
            ExitCode::kIo);
  EXPECT_EQ(testing::slurp(scratch / "new"), "text");
}

}  // namespace
}  // namespace lockstep
