// A lock between processes: refused while held, free after release, death and removal.
#include "files/lock.h"

#include "files/holding_child.h"
#include "io/fixture.h"

#include <cerrno>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDirectory;

TEST(Lock, AnotherProcessHoldsItUntilItDies) {
  ScratchDirectory scratch;
  const std::string path = scratch / "lock";
  FileLock mine;
  {
    HoldingChild child([&] {
      auto lock = std::make_unique<FileLock>();
      if (lock->try_take(path) != 0) _exit(1);
      return lock;
    });
    EXPECT_EQ(mine.try_take(path), EWOULDBLOCK);
    EXPECT_FALSE(mine.held());
  }
  EXPECT_EQ(mine.try_take(path), 0);
  EXPECT_TRUE(mine.held());
  FileLock second;
  EXPECT_EQ(second.try_take(path), EWOULDBLOCK);
  mine.release();
  EXPECT_TRUE(fs::exists(path));
  EXPECT_EQ(second.try_take(path), 0);
}

// Whoever held it before may remove the file between our opening and our locking.
TEST(Lock, AFileWithoutItsNameLocksNobodyOut) {
  ScratchDirectory scratch;
  const std::string path = scratch / "lock";
  const FileSystem files([&](FileCall call, const std::string&) {
    if (call == FileCall::kLock) fs::remove(path);
    return 0;
  });
  FileLock lock;
  EXPECT_EQ(lock.try_take(path, files), ESTALE);
  EXPECT_FALSE(lock.held());
  EXPECT_EQ(lock.try_take(path), 0);
}

TEST(Lock, LinksAreNotFollowed) {
  ScratchDirectory scratch;
  testing::spill(scratch / "file", "x");
  for (const char* target : {"file", "nowhere"}) {
    fs::remove(scratch / "link");
    fs::create_symlink(target, scratch / "link");
    FileLock lock;
    EXPECT_EQ(lock.try_take(scratch / "link"), ELOOP) << target;
  }
  EXPECT_FALSE(fs::exists(scratch / "nowhere"));
}

TEST(Lock, AFileSystemWithoutLocksIsToldApart) {
  for (const int error : {ENOLCK, ENOSYS, EOPNOTSUPP}) EXPECT_TRUE(FileLock::is_unsupported(error));
  for (const int error : {EWOULDBLOCK, EACCES, ESTALE}) {
    EXPECT_FALSE(FileLock::is_unsupported(error));
  }
}

}  // namespace
}  // namespace lockstep
