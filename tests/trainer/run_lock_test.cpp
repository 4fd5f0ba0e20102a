// The lock of a run directory: who is refused, who takes over, and that of many starters one wins.
#include "trainer/run_lock.h"

#include "tests/trainer/run_fixture.h"
#include "trainer/run_directory.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <thread>

namespace lockstep::test {
namespace {

class RunLockTest : public RunFixture {
 protected:
  void SetUp() override {
    RunFixture::SetUp();
    std::filesystem::create_directories(run_);
  }
  static constexpr LockSettings kBeats{.heartbeat_seconds = 0.02};

  std::string lock() const { return run_ + "/lock"; }
  // True if `condition` comes to hold within seconds.
  static bool soon(const std::function<bool()>& condition) {
    for (int i = 0; i < 1000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  // A lock of this process, with some fields replaced.
  void write_lock(const nlohmann::json& changes) {
    nlohmann::json json;
    {
      const RunLock own(run_, log_);
      json = nlohmann::json::parse(read(lock()));
    }
    json.update(changes);
    write(lock(), json.dump() + "\n");
  }
  Caught refused() {
    return error_of([&] { RunLock another(run_, log_); });
  }
  // The holder's pid after a take-over; the log must name whom it was taken from.
  std::int64_t taken_over() {
    ::testing::internal::CaptureStdout();
    const RunLock mine(run_, log_);
    const std::string printed = ::testing::internal::GetCapturedStdout();
    EXPECT_NE(printed.find("taken over from"), std::string::npos) << printed;
    return read_lock(lock())->pid;
  }
};

TEST_F(RunLockTest, NamesItsHolderAndGoesWithIt) {
  {
    const RunLock own(run_, log_);
    const auto holder = read_lock(lock());
    ASSERT_TRUE(holder.has_value());
    EXPECT_EQ(holder->pid, ::getpid());
    EXPECT_GT(holder->start_ticks, 0u);
    EXPECT_FALSE(holder->host.empty());
    EXPECT_TRUE(is_alive(*holder, 0.0));
  }
  EXPECT_FALSE(read_lock(lock()).has_value());
}

TEST_F(RunLockTest, RefusesASecondTrainer) {
  const RunLock own(run_, log_);
  const auto caught = refused();
  EXPECT_EQ(caught.code, ExitCode::kConfig);
  EXPECT_NE(caught.message.find("pid " + std::to_string(::getpid())), std::string::npos)
      << caught.message;
  EXPECT_NE(caught.message.find(read_lock(lock())->host), std::string::npos) << caught.message;
}

TEST_F(RunLockTest, TheRunDirectoryHoldsIt) {
  const RunDirectory run(run_, log_);
  EXPECT_EQ(error_of([&] { RunDirectory another(run_, log_); }).code, ExitCode::kConfig);
}

TEST_F(RunLockTest, TakesOverFromAProcessThatWasKilled) {
  const pid_t child = start_child([&] {
    new RunLock(run_, log_);  // never destroyed: the child is gone without clean-up
    return 0;
  });
  siginfo_t ended{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(read_lock(lock())->pid, child);
  EXPECT_EQ(taken_over(), ::getpid()) << "a zombie is not a trainer";
  EXPECT_EQ(wait_for(child), 0);
}

TEST_F(RunLockTest, AReusedPidIsNotTheTrainer) {
  write_lock({{"start_ticks", 1}});
  EXPECT_EQ(taken_over(), ::getpid());
}

TEST_F(RunLockTest, AnotherHostIsJudgedByItsHeartbeat) {
  write_lock({{"host", "node7"}, {"machine", "elsewhere"}, {"pid", 4711}});
  make_older(lock(), kLockStaleSeconds - 20);
  const auto caught = refused();
  EXPECT_EQ(caught.code, ExitCode::kConfig);
  EXPECT_NE(caught.message.find("pid 4711 on node7"), std::string::npos) << caught.message;
  make_older(lock(), kLockStaleSeconds + 20);
  EXPECT_EQ(taken_over(), ::getpid());
}

// A job that the batch system started again on another node, with the same number.
TEST_F(RunLockTest, AnEarlierStartOfTheSameJobIsTakenOverWhenItShowsNoLife) {
  write_lock({{"host", "node7"}, {"machine", "elsewhere"}, {"pid", 4711}, {"job", "77"}});
  EXPECT_EQ(refused().code, ExitCode::kConfig) << "another job's";
  ::setenv("SLURM_JOB_ID", "77", 1);
  {
    const RunLock mine(run_, log_, {.heartbeat_seconds = 0.1});
    EXPECT_EQ(read_lock(lock())->pid, ::getpid());
  }
  write_lock({{"host", "node7"}, {"machine", "elsewhere"}, {"pid", 4711}, {"job", "77"}});
  std::atomic<bool> over{false};
  std::thread alive([&] {
    while (!over) {
      ::utimensat(AT_FDCWD, lock().c_str(), nullptr, 0);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  });
  EXPECT_EQ(error_of([&] { RunLock mine(run_, log_, {.heartbeat_seconds = 1.0}); }).code,
            ExitCode::kConfig);
  over = true;
  alive.join();
  ::unsetenv("SLURM_JOB_ID");
}

TEST_F(RunLockTest, ARebootedHostIsAnotherMachine) {
  write_lock({{"machine", "an earlier boot"}});
  EXPECT_EQ(refused().code, ExitCode::kConfig);
  make_older(lock(), kLockStaleSeconds + 20);
  EXPECT_EQ(taken_over(), ::getpid());
}

TEST_F(RunLockTest, AnUnreadableLockIsJudgedByItsAge) {
  write(lock(), "{\"host\": \"no");
  EXPECT_EQ(refused().code, ExitCode::kConfig);
  make_older(lock(), kLockStaleSeconds + 20);
  EXPECT_EQ(taken_over(), ::getpid());
}

// The main thread is in a long save, verification or step.
TEST_F(RunLockTest, HeartbeatsMoveTheTimeWhateverTheMainThreadDoes) {
  const RunLock own(run_, log_, kBeats);
  const std::string before = read_lock(lock())->heartbeat;
  make_older(lock(), kLockStaleSeconds + 20);
  EXPECT_TRUE(soon([&] { return file_age(lock()) < 50 && read_lock(lock())->heartbeat > before; }));
  EXPECT_EQ(lines(lock()).size(), 1u);
}

TEST_F(RunLockTest, HeartbeatsAreRareByDefault) {
  const RunLock own(run_, log_);
  make_older(lock(), 100);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_GT(file_age(lock()), 50);
}

TEST_F(RunLockTest, ARemovedLockIsMadeAgain) {
  RunLock own(run_, log_, kBeats);
  std::filesystem::remove(lock());
  EXPECT_TRUE(soon([&] { return read_lock(lock()).has_value(); }));
  EXPECT_EQ(refused().code, ExitCode::kConfig);
  own.check();
  own.require();
}

TEST_F(RunLockTest, ATrainerThatWasTakenOverStops) {
  for (const LockSettings& settings : {kBeats, LockSettings{}}) {
    RunLock own(run_, log_, settings);
    auto json = nlohmann::json::parse(read(lock()));
    json["host"] = "node7";
    std::filesystem::remove(lock());
    write(lock(), json.dump());
    const bool beats = settings.heartbeat_seconds == kBeats.heartbeat_seconds;
    const auto caught = error_of([&] {
      if (!beats) own.require();
      soon([&] { return own.check(), false; });
    });
    EXPECT_EQ(caught.code, ExitCode::kConfig);
    EXPECT_NE(caught.message.find("node7"), std::string::npos) << caught.message;
    EXPECT_EQ(error_of([&] { own.check(); }).message, caught.message);
    std::filesystem::remove(lock());
  }
}

TEST_F(RunLockTest, ALosersEndDoesNotRemoveTheWinnersLock) {
  {
    const RunLock own(run_, log_);
    std::filesystem::remove(lock());
    write(lock(), "{\"host\":\"node7\"}");
  }
  EXPECT_TRUE(std::filesystem::exists(lock()));
}

// Processes that start at the same instant on a stale lock: one wins, all others are refused. The
// winner stays until everyone has tried.
class RunLockRaceTest : public RunLockTest, public ::testing::WithParamInterface<bool> {};

TEST_P(RunLockRaceTest, OfManyStartersOneWins) {
  constexpr int kRounds = 8;
  constexpr int kStarters = 6;
  for (int round = 0; round < kRounds; ++round) {
    write_lock({{"start_ticks", 1}});
    int gate[2], results[2];
    ASSERT_EQ(::pipe(gate), 0);
    ASSERT_EQ(::pipe(results), 0);
    std::vector<pid_t> children;
    for (int i = 0; i < kStarters; ++i) {
      children.push_back(start_child([&] {
        ::close(gate[1]);
        char result = 'e';
        if (::read(gate[0], &result, 1) != 0) return 1;
        try {
          Log quiet(1);
          new RunLock(run_, quiet, {.use_flock = GetParam()});  // never destroyed: killed below
          result = 'w';
        } catch (const UserError& error) {
          result = error.code() == ExitCode::kConfig ? 'r' : 'e';
        }
        const ssize_t told = ::write(results[1], &result, 1);
        ::pause();
        return static_cast<int>(told);
      }));
    }
    ::close(gate[0]);
    ::close(gate[1]);  // they all see the end of the pipe and start
    std::string outcome(kStarters, '?');
    for (char& result : outcome) ASSERT_EQ(::read(results[0], &result, 1), 1);
    for (const pid_t child : children) ::kill(child, SIGKILL);
    for (const pid_t child : children) wait_for(child);
    ::close(results[0]);
    ::close(results[1]);
    EXPECT_EQ(std::count(outcome.begin(), outcome.end(), 'w'), 1) << outcome;
    EXPECT_EQ(std::count(outcome.begin(), outcome.end(), 'r'), kStarters - 1) << outcome;
  }
  const std::filesystem::directory_iterator files(run_);
  EXPECT_EQ(std::distance(begin(files), end(files)), 1) << "temporary files are left";
}

INSTANTIATE_TEST_SUITE_P(Flock, RunLockRaceTest, ::testing::Bool());

}  // namespace
}  // namespace lockstep::test
