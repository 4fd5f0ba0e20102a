// Whole-file operations: complete or absent under failures, first caller wins, links not followed.

#include "files/durable.h"
#include "files/free_space.h"
#include "files/input_file.h"
#include "files/staged.h"
#include "io/fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <limits>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDirectory;

TEST(Files, AtomicWriteReplacesWhole) {
  ScratchDirectory scratch;
  const std::string path = scratch / "latest";
  atomic_write_file(path, "one\n");
  EXPECT_EQ(testing::slurp(path), "one\n");
  testing::spill(path + ".tmp", "left by a crash");
  atomic_write_file(path, "two\n");
  EXPECT_EQ(testing::slurp(path), "two\n");
  EXPECT_FALSE(fs::exists(path + ".tmp"));
}

TEST(Files, AtomicWriteKeepsTheOldContentWhenAnyCallFails) {
  ScratchDirectory scratch;
  const std::string path = scratch / "latest";
  atomic_write_file(path, "old\n");
  int failed = 0;
  for (int n = 1;; ++n) {
    int calls = 0;
    const FileSystem files([&](FileCall, const std::string&) { return ++calls == n ? EIO : 0; });
    const auto caught = testing::catch_user_error([&] { atomic_write_file(path, "new\n", files); });
    if (calls < n) {
      EXPECT_EQ(caught.code, ExitCode::kDone);
      break;
    }
    ++failed;
    EXPECT_EQ(caught.code, ExitCode::kIo) << n;
    const std::string now = testing::slurp(path);
    EXPECT_TRUE(now == "old\n" || now == "new\n") << n << ": " << now;
    EXPECT_FALSE(fs::exists(path + ".tmp")) << n;
    atomic_write_file(path, "old\n");
  }
  EXPECT_EQ(failed, 8);  // open, write, sync, close, rename; directory: open, sync, close
  EXPECT_EQ(testing::slurp(path), "new\n");
}

TEST(Files, ShortTransfersAndInterruptionsAreCompleted) {
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

TEST(Files, NewFilesHaveOneWinner) {
  ScratchDirectory scratch;
  EXPECT_TRUE(publish_new_file(scratch / "failure.json", "first"));
  EXPECT_FALSE(publish_new_file(scratch / "failure.json", "second"));
  EXPECT_EQ(testing::slurp(scratch / "failure.json"), "first");
  const auto caught =
      testing::catch_user_error([&] { publish_new_file(scratch / "absent/failure.json", "x"); });
  EXPECT_EQ(caught.code, ExitCode::kIo);
  EXPECT_NE(caught.message.find("absent/failure.json"), std::string::npos);
}

TEST(Files, LinksAndPipesAreRefused) {
  ScratchDirectory scratch;
  testing::spill(scratch / "secret", "secret");
  fs::create_symlink(scratch / "secret", scratch / "link");
  testing::expect_data_error([&] { read_file(scratch / "link", 100); }, "is a link");
  ASSERT_EQ(::mkfifo((scratch / "pipe").c_str(), 0600), 0);
  testing::expect_data_error([&] { read_file(scratch / "pipe", 100); }, "not a regular file");
  testing::expect_data_error([&] { read_file(scratch.path(), 100); }, "not a regular file");
  testing::expect_data_error([&] { read_file(scratch / "none", 100); }, "missing");
  testing::expect_data_error([&] { read_file(scratch / "secret", 3); }, "at most");
  fs::create_symlink(scratch / "secret", scratch / "new.tmp");
  atomic_write_file(scratch / "new", "new");
  EXPECT_EQ(testing::slurp(scratch / "secret"), "secret");
}

TEST(Files, RemoveTreeStaysInside) {
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

TEST(Files, MakeDirectoriesNamesWhatItCannotMake) {
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
TEST(Files, ALinkToADirectoryIsADirectory) {
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

TEST(Files, BehindALinkIsWhatItLeadsTo) {
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

TEST(Files, EachNewLevelIsSyncedInItsParent) {
  ScratchDirectory scratch;
  std::vector<std::string> synced;
  const FileSystem files([&](FileCall call, const std::string& path) {
    if (call == FileCall::kSync) synced.push_back(path);
    return 0;
  });
  make_directories(scratch / "a/b", files);
  EXPECT_EQ(synced, (std::vector<std::string>{scratch.path(), scratch / "a"}));
}

TEST(Files, FreeSpaceIsCheckedOnTheNearestDirectory) {
  ScratchDirectory scratch;
  EXPECT_NO_THROW(require_free_space(scratch / "not/yet/there", 1));
  const auto caught = testing::catch_user_error(
      [&] { require_free_space(scratch / "not/yet", std::numeric_limits<std::int64_t>::max()); });
  EXPECT_EQ(caught.code, ExitCode::kIo);
  EXPECT_NE(caught.message.find("not/yet"), std::string::npos) << caught.message;
  EXPECT_NE(caught.message.find("needed"), std::string::npos) << caught.message;
}

TEST(Files, BytesAsText) {
  EXPECT_EQ(bytes_text(0), "0 bytes");
  EXPECT_EQ(bytes_text(1023), "1023 bytes");
  EXPECT_EQ(bytes_text(1536), "1.5 KiB");
  EXPECT_EQ(bytes_text(std::int64_t{3} << 30), "3.0 GiB");
  EXPECT_EQ(bytes_text(-1), "an unknown number of bytes");
}

}  // namespace
}  // namespace lockstep
