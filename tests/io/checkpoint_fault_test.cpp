// Failing disks: every file call of a save is made to fail in turn, and a real file system is
// filled. The checkpoint before stays valid, nothing leaks, and the next save works.
#include "files/file_system.h"
#include "io/checkpoint.h"

#include "io/fixture.h"
#include "io/hdf5_handle.h"

#include <sys/mount.h>
#include <sys/resource.h>

#include <cerrno>
#include <csignal>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using testing::ScratchDirectory;
using testing::State;

std::size_t open_descriptors() {
  std::size_t count = 0;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    count += entry.path().empty() ? 0 : 1;
  }
  return count;
}

void expect_nothing_open(std::size_t descriptors) {
  ASSERT_EQ(H5Fget_obj_count(static_cast<hid_t>(H5F_OBJ_ALL), H5F_OBJ_ALL), 0);
  ASSERT_EQ(open_descriptors(), descriptors);
}

// The newest checkpoint that verifies, after a failed save has been cleaned up.
std::int64_t newest_valid(const std::string& checkpoints) {
  remove_temporaries(checkpoints);
  for (const CheckpointEntry& entry : list_checkpoints(checkpoints)) {
    const auto caught =
        testing::catch_user_error([&] { verify_checkpoint(entry.path, VerifyLevel::kDeep); });
    if (caught.code == ExitCode::kDone) return entry.step;
  }
  return -1;
}

// Saves step 8 over step 7 with the N-th call failing, for N = 1, 2, ... until none fails; returns
// how many failed.
int fail_each_call(const State& before, const State& after, int error) {
  ScratchDirectory scratch;
  const std::size_t descriptors = open_descriptors();
  for (int n = 1;; ++n) {
    const std::string checkpoints = scratch / std::to_string(n);
    testing::save(checkpoints, before, 2);
    int calls = 0;
    const FileSystem files([&](FileCall, const std::string&) { return ++calls == n ? error : 0; });
    const auto caught =
        testing::catch_user_error([&] { testing::save(checkpoints, after, 2, {}, files); });
    expect_nothing_open(descriptors);
    if (::testing::Test::HasFatalFailure()) return n;
    const std::int64_t newest = newest_valid(checkpoints);
    if (calls < n) {
      EXPECT_EQ(caught.code, ExitCode::kDone);
      EXPECT_EQ(newest, after.meta.step);
      return n - 1;
    }
    EXPECT_EQ(caught.code, ExitCode::kIo) << "call " << n << ": " << caught.message;
    EXPECT_NE(caught.message.find(checkpoints), std::string::npos) << caught.message;
    EXPECT_EQ(caught.message.find('\n'), std::string::npos) << caught.message;
    EXPECT_GE(newest, before.meta.step) << "call " << n;
    for (const CheckpointEntry& entry : list_checkpoints(checkpoints)) {
      EXPECT_NO_THROW(verify_checkpoint(entry.path, VerifyLevel::kDeep)) << "call " << n;
    }
    testing::save(checkpoints, after, 2);
    EXPECT_EQ(newest_valid(checkpoints), after.meta.step) << "call " << n;
    fs::remove_all(checkpoints);
  }
}

TEST(CheckpointFault, EveryCallOfASaveMayFail) {
  const State before = testing::small_state(7);
  const State after = testing::small_state(8);
  for (const int error : {ENOSPC, EIO}) EXPECT_GT(fail_each_call(before, after, error), 40);
}

// The same step again: the old directory is swapped out. Until the end either one is valid.
TEST(CheckpointFault, EveryCallOfAReplacementMayFail) {
  const State before = testing::small_state(7);
  State after = testing::small_state(7);
  after.bytes[0][0] ^= std::byte{1};
  EXPECT_GT(fail_each_call(before, after, EIO), 40);
  // As a file system that cannot swap two names: EINVAL, at whichever call it comes.
  ScratchDirectory scratch;
  const std::string path = testing::save(scratch.path(), before, 1);
  const std::string digest = CheckpointReader(path).digest();
  bool swapped = false;
  const FileSystem files([&](FileCall call, const std::string& name) {
    if (call != FileCall::kRename || name != path || swapped) return 0;
    swapped = true;
    return EINVAL;
  });
  EXPECT_EQ(testing::save(scratch.path(), after, 1, {}, files), path);
  EXPECT_TRUE(swapped);
  EXPECT_NE(CheckpointReader(path).digest(), digest);
  EXPECT_NO_THROW(verify_checkpoint(path, VerifyLevel::kDeep));
}

// So many datasets that HDF5 evicts metadata while it writes: failures then come in its midst.
TEST(CheckpointFault, ManyTensorsAndALateFailure) {
  State state;
  for (int i = 0; i < 4000; ++i) state.add("model/h." + std::to_string(i), {2});
  state.meta = testing::sample_meta(1);
  ScratchDirectory scratch;
  const std::size_t descriptors = open_descriptors();
  const auto ranges = rows_of(0, assign_rows(state.tensors, 1));
  const auto attempt = [&](int n, int& calls) {
    const FileSystem files([&](FileCall, const std::string&) { return ++calls == n ? ENOSPC : 0; });
    return testing::catch_user_error([&] {
      write_shard(files, scratch.path(), 0, 1, state.tensors, ranges, state.source(), state.meta);
    });
  };
  int all = 0;
  EXPECT_EQ(attempt(-1, all).code, ExitCode::kDone);
  EXPECT_GT(all, 2000);
  fs::remove(scratch / shard_file_name(0, 1));
  for (int n = 1; n <= all; n += all / 5) {
    int calls = 0;
    const auto caught = attempt(n, calls);
    EXPECT_EQ(caught.code, ExitCode::kIo) << n << ": " << caught.message;
    expect_nothing_open(descriptors);
    EXPECT_FALSE(fs::exists(scratch / shard_file_name(0, 1))) << n;
  }
}

TEST(CheckpointFault, ShortTransfersAndInterruptionsAreHarmless) {
  ScratchDirectory scratch;
  int calls = 0;
  const FileSystem files([&](FileCall, const std::string&) {
    return ++calls % 2 == 0 ? EINTR : FileSystem::kShortTransfer;
  });
  const State state = testing::small_state();
  const std::string odd = testing::save(scratch / "odd", state, 2, {}, files);
  const std::string plain = testing::save(scratch / "plain", state, 2);
  for (int shard = 0; shard < 2; ++shard) {
    const std::string name = "/" + shard_file_name(shard, 2);
    EXPECT_EQ(testing::slurp(odd + name), testing::slurp(plain + name));
  }
  EXPECT_NO_THROW(verify_checkpoint(odd, VerifyLevel::kDeep));
}

TEST(CheckpointFault, ASourceThatThrowsLeavesNothingOpen) {
  ScratchDirectory scratch;
  const State state = testing::small_state();
  const std::size_t descriptors = open_descriptors();
  const RowSource broken = [](std::size_t, std::int64_t, std::span<std::byte>) {
    throw std::runtime_error("device lost");
  };
  EXPECT_THROW(write_shard(scratch.path(), 0, 1, state.tensors,
                           rows_of(0, assign_rows(state.tensors, 1)), broken, state.meta),
               std::runtime_error);
  expect_nothing_open(descriptors);
  EXPECT_TRUE(fs::is_empty(scratch.path()));
}

TEST(CheckpointFault, FailuresWhileDeletingAreReported) {
  ScratchDirectory scratch;
  for (std::int64_t step = 1; step <= 3; ++step) {
    testing::save(scratch.path(), testing::small_state(step), 1);
  }
  for (int n = 1;; ++n) {
    int calls = 0;
    const FileSystem files([&](FileCall, const std::string&) { return ++calls == n ? EIO : 0; });
    std::vector<CheckpointEntry> old = list_checkpoints(scratch.path());
    old.erase(old.begin());
    const auto caught =
        testing::catch_user_error([&] { delete_checkpoints(files, scratch.path(), old); });
    if (calls < n) break;
    EXPECT_EQ(caught.code, ExitCode::kIo) << n;
    EXPECT_NO_THROW(verify_checkpoint(scratch / "step_00000003", VerifyLevel::kDeep));
    for (std::int64_t step = 1; step <= 2; ++step) {
      testing::save(scratch.path(), testing::small_state(step), 1);
    }
  }
  remove_temporaries(scratch.path());
  std::size_t entries = 0;
  for (const auto& entry : fs::directory_iterator(scratch.path())) {
    entries += entry.path().empty() ? 0 : 1;
  }
  EXPECT_EQ(entries, 2u);  // step_00000003 and latest
}

// A file-size limit is a real write error from the kernel that needs no privileges.
TEST(CheckpointFault, KernelRefusesToGrowTheFile) {
  ScratchDirectory scratch;
  State state;
  state.add("model/w", {300, 1000});
  state.meta = testing::sample_meta(1);
  const std::size_t descriptors = open_descriptors();
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = old;
  small.rlim_cur = 500000;
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto caught = testing::catch_user_error([&] { testing::save(scratch.path(), state, 1); });
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(caught.code, ExitCode::kIo) << caught.message;
  expect_nothing_open(descriptors);
  EXPECT_NO_THROW(verify_checkpoint(testing::save(scratch.path(), state, 1), VerifyLevel::kDeep));
}

// A mounted file system of `size`; needs root.
class SmallDisk {
 public:
  SmallDisk(const std::string& path, const char* size) : path_(path) {
    fs::create_directory(path);
    error_ = ::mount("tmpfs", path.c_str(), "tmpfs", 0, size) == 0 ? 0 : errno;
  }
  ~SmallDisk() {
    if (error_ == 0) ::umount(path_.c_str());
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;
  int error() const { return error_; }
  bool resize(const char* size) {
    return ::mount("tmpfs", path_.c_str(), "tmpfs", MS_REMOUNT, size) == 0;
  }

 private:
  std::string path_;
  int error_ = 0;
};

TEST(CheckpointFault, FullDisk) {
  ScratchDirectory scratch;
  const std::string disk = scratch / "disk";
  SmallDisk mounted(disk, "size=3m");
  if (mounted.error() != 0) {
    GTEST_SKIP() << "cannot mount a small tmpfs: " << errno_text(mounted.error());
  }
  const std::size_t descriptors = open_descriptors();
  State state;
  state.add("model/w", {500, 1000});  // 1.9 MiB: one fits, two do not
  state.meta = testing::sample_meta(1);
  testing::save(disk + "/c", state, 2);
  state.meta.step = 2;
  const auto caught = testing::catch_user_error([&] { testing::save(disk + "/c", state, 2); });
  EXPECT_EQ(caught.code, ExitCode::kIo);
  for (const char* part : {"step_00000002", "needs", "free", "No space left"}) {
    EXPECT_NE(caught.message.find(part), std::string::npos) << caught.message;
  }
  expect_nothing_open(descriptors);
  EXPECT_EQ(newest_valid(disk + "/c"), 1);
  const auto planned = testing::catch_user_error([&] {
    require_free_space(disk + "/c",
                       checkpoint_bytes(state.tensors, assign_rows(state.tensors, 2), 2));
  });
  EXPECT_EQ(planned.code, ExitCode::kIo);
  EXPECT_TRUE(mounted.resize("size=8m"));
  testing::save(disk + "/c", state, 2);
  EXPECT_EQ(newest_valid(disk + "/c"), 2);
}

}  // namespace
}  // namespace lockstep
