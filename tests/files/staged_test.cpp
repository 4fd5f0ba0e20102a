// What appears whole or not at all: under failures, between processes, where links stand.
#include "files/staged.h"

#include "files/holding_child.h"
#include "io/fixture.h"

#include <cerrno>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDirectory;

TEST(Staged, AtomicWriteReplacesWhole) {
  ScratchDirectory scratch;
  const std::string path = scratch / "latest";
  atomic_write_file(path, "one\n");
  EXPECT_EQ(testing::slurp(path), "one\n");
  testing::spill(path + ".tmp", "left by a crash");
  atomic_write_file(path, "two\n");
  EXPECT_EQ(testing::slurp(path), "two\n");
  EXPECT_FALSE(fs::exists(path + ".tmp"));
}

TEST(Staged, AtomicWriteKeepsTheOldContentWhenAnyCallFails) {
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

TEST(Staged, NewFilesHaveOneWinner) {
  ScratchDirectory scratch;
  EXPECT_TRUE(publish_new_file(scratch / "failure.json", "first"));
  EXPECT_FALSE(publish_new_file(scratch / "failure.json", "second"));
  EXPECT_EQ(testing::slurp(scratch / "failure.json"), "first");
  const auto caught =
      testing::catch_user_error([&] { publish_new_file(scratch / "absent/failure.json", "x"); });
  EXPECT_EQ(caught.code, ExitCode::kIo);
  EXPECT_NE(caught.message.find("absent/failure.json"), std::string::npos);
}

// The name is replaced, never what a link at that name leads to.
TEST(Staged, ALinkAtTheNameIsReplaced) {
  ScratchDirectory scratch;
  testing::spill(scratch / "kept", "kept");
  for (const char* target : {"kept", "nowhere"}) {
    const std::string path = scratch / "name";
    fs::remove(path);
    fs::create_symlink(target, path);
    atomic_write_file(path, "new");
    EXPECT_FALSE(fs::is_symlink(path)) << target;
    EXPECT_EQ(testing::slurp(path), "new") << target;
  }
  EXPECT_EQ(testing::slurp(scratch / "kept"), "kept");
  EXPECT_FALSE(fs::exists(scratch / "nowhere"));
  fs::create_symlink("nowhere", scratch / "taken");
  EXPECT_FALSE(publish_new_file(scratch / "taken", "x"));
}

// Directories and links are swapped, so that the old one is whole until the new one stands there.
TEST(Staged, PutInPlaceSwapsWhatStoodThere) {
  ScratchDirectory scratch;
  const std::string path = scratch / "out";
  const auto put = [&](const std::string& text) {
    fs::create_directory(scratch / "staged");
    testing::spill(scratch / "staged/file", text);
    return put_in_place(scratch / "staged", path, scratch / "aside");
  };
  EXPECT_EQ(put("first"), "");
  EXPECT_EQ(put("second"), scratch / "staged");
  EXPECT_EQ(testing::slurp(path + "/file"), "second");
  EXPECT_EQ(testing::slurp(scratch / "staged/file"), "first");
  fs::remove_all(scratch / "staged");
  for (const char* target : {"real", "nowhere"}) {
    fs::remove_all(path);
    fs::create_directories(scratch / "real");
    fs::create_directory_symlink(target, path);
    EXPECT_EQ(put("new"), scratch / "staged") << target;
    EXPECT_FALSE(fs::is_symlink(path)) << target;
    EXPECT_EQ(testing::slurp(path + "/file"), "new") << target;
    EXPECT_TRUE(fs::is_symlink(scratch / "staged")) << target;
    fs::remove(scratch / "staged");
  }
  EXPECT_TRUE(fs::is_empty(scratch / "real"));
}

// Whichever rename fails, one whole directory stands there or aside.
TEST(Staged, PutInPlaceLosesNothingWhenACallFails) {
  for (int n = 1; n <= 3; ++n) {
    ScratchDirectory scratch;
    for (const char* name : {"out", "staged"}) {
      fs::create_directory(scratch / name);
      testing::spill(scratch / (name + std::string("/file")), name);
    }
    int renames = 0;
    const FileSystem files([&](FileCall call, const std::string&) {
      if (call != FileCall::kRename) return 0;
      ++renames;
      return renames == 1 ? EINVAL : renames == n ? EIO : 0;
    });
    const auto caught = testing::catch_user_error(
        [&] { put_in_place(scratch / "staged", scratch / "out", scratch / "aside", files); });
    EXPECT_EQ(caught.code, n == 1 ? ExitCode::kDone : ExitCode::kIo);
    EXPECT_EQ(testing::slurp(scratch / "out/file"), n == 1 ? "staged" : "out") << n;
  }
}

TEST(Staged, ADirectoryHasOneOwnerAtATime) {
  ScratchDirectory scratch;
  const std::string path = scratch / ".staging";
  const auto own = [&] { StagingDirectory staging(path, "out"); };
  {
    HoldingChild child([&] { return std::make_unique<StagingDirectory>(path, "out"); });
    const auto caught = testing::catch_user_error(own);
    EXPECT_EQ(caught.code, ExitCode::kUsage);
    EXPECT_NE(caught.message.find("out: another `lockstep` is writing there"), std::string::npos);
  }
  own();
  EXPECT_FALSE(fs::exists(path));
}

TEST(Staged, WhatAKilledOwnerLeftBelongsToTheNext) {
  ScratchDirectory scratch;
  const std::string path = scratch / ".staging";
  {
    HoldingChild child([&] {
      auto staging = std::make_unique<StagingDirectory>(path, "out");
      testing::spill(staging->path("half"), "half a file");
      fs::create_directories(staging->path("model/deep"));
      return staging;
    });
  }
  EXPECT_TRUE(fs::exists(path + "/half"));
  StagingDirectory staging(path, "out");
  staging.clear();
  EXPECT_FALSE(fs::exists(path + "/half"));
  EXPECT_FALSE(fs::exists(path + "/model"));
  EXPECT_TRUE(fs::exists(path + "/lock"));
}

// A link where a staging directory would stand: nothing behind it is touched unless it is one.
TEST(Staged, ALinkIsNoStagingDirectory) {
  ScratchDirectory scratch;
  fs::create_symlink("nowhere", scratch / ".staging");
  EXPECT_EQ(testing::catch_user_error([&] { StagingDirectory(scratch / ".staging", "out"); }).code,
            ExitCode::kIo);
  EXPECT_FALSE(fs::exists(scratch / "nowhere"));
}

}  // namespace
}  // namespace lockstep
