// What `inspect` says of a run in each state, from files alone.
#include "trainer/run_directory.h"

#include "io/checkpoint.h"
#include "tests/trainer/run_fixture.h"
#include "trainer/run_lock.h"

#include <nlohmann/json.hpp>

#include <cstring>

namespace lockstep::test {
namespace {

MetricsRow row_of(std::int64_t step) {
  MetricsRow row;
  row.step = step;
  return row;
}

class RunInspectTest : public RunFixture {
 protected:
  std::string resume_command() const {
    return "lockstep train " + run_ + "/config.toml --run.dir=" + run_;
  }
  // One tensor of zeros is enough of a checkpoint.
  void save(std::int64_t step) {
    const std::string checkpoints = run_ + "/checkpoints";
    const std::vector<StateTensor> tensors{{"model/w", Shape{2, 2}, DType::kF32}};
    CheckpointMeta meta;
    meta.step = step;
    const std::string temporary = make_temporary_checkpoint(checkpoints, step);
    const auto zeros = [](std::size_t, std::int64_t, std::span<std::byte> out) {
      std::memset(out.data(), 0, out.size());
    };
    const auto shard =
        write_shard(temporary, 0, 1, tensors, rows_of(0, assign_rows(tensors, 1)), zeros, meta);
    publish_checkpoint(checkpoints, temporary, tensors, {shard}, meta, {});
  }
};

TEST_F(RunInspectTest, AMissingDirectoryIsADataError) {
  const auto caught = error_of([&] { inspect_run(run_); });
  EXPECT_EQ(caught.code, ExitCode::kData);
  EXPECT_NE(caught.message.find(run_), std::string::npos) << caught.message;
}

TEST_F(RunInspectTest, Empty) {
  std::filesystem::create_directories(run_);
  const RunState state = inspect_run(run_);
  EXPECT_EQ(state.state, "empty");
  EXPECT_EQ(state.newest_checkpoint, "");
  EXPECT_EQ(state.next_command, "lockstep train CONFIG.toml --run.dir=" + run_);
}

TEST_F(RunInspectTest, Running) {
  RunDirectory run(run_, log_);
  run.event("start", 0);
  run.append(row_of(40));
  const RunState state = inspect_run(run_ + "/");
  EXPECT_EQ(state.state, "running");
  EXPECT_EQ(state.step, 40);
  EXPECT_NE(state.cause.find("pid " + std::to_string(::getpid())), std::string::npos)
      << state.cause;
  EXPECT_EQ(state.next_command, "tail -f " + run_ + "/train.log");
}

TEST_F(RunInspectTest, Finished) {
  {
    RunDirectory run(run_, log_);
    run.event("start", 0);
    run.event("stop", 2000, {{"state", "finished"}, {"signal", ""}});
  }
  const RunState state = inspect_run(run_);
  EXPECT_EQ(state.state, "finished");
  EXPECT_EQ(state.step, 2000);
  EXPECT_EQ(state.cause, "all steps are done");
  EXPECT_EQ(state.next_command, "lockstep eval " + run_);
}

TEST_F(RunInspectTest, Stopped) {
  {
    RunDirectory run(run_, log_);
    run.event("stop", 300, {{"state", "stopped"}, {"signal", "SIGUSR1"}});
  }
  save(300);
  const RunState state = inspect_run(run_);
  EXPECT_EQ(state.state, "stopped");
  EXPECT_EQ(state.cause, "stopped by SIGUSR1");
  EXPECT_EQ(state.newest_checkpoint, run_ + "/checkpoints/step_00000300");
  EXPECT_EQ(state.next_command, resume_command());
}

TEST_F(RunInspectTest, TheLauncherOfTheNewestStartIsPartOfTheCommand) {
  {
    RunDirectory run(run_, log_);
    run.event("start", 0, {{"launcher", "mpirun -n 2 "}});
    run.event("resume", 100, {{"launcher", "mpirun -n 4 "}});
    run.event("stop", 300, {{"state", "stopped"}});
  }
  EXPECT_EQ(inspect_run(run_).next_command, "mpirun -n 4 " + resume_command());
}

TEST_F(RunInspectTest, Failed) {
  {
    RunDirectory run(run_, log_);
    run.event("start", 0);
    run.append(row_of(40));
    record_failure(run_, {.exit_code = 76,
                          .rank = 2,
                          .host = "node7",
                          .pid = 1,
                          .step = 55,
                          .phase = "train",
                          .message = "rank 1 is gone",
                          .newest_checkpoint = "",
                          .next_command = "mpirun -n 4 lockstep train a.toml"});
  }
  const RunState state = inspect_run(run_);
  EXPECT_EQ(state.state, "failed");
  EXPECT_EQ(state.step, 55);
  EXPECT_EQ(state.cause, "exit 76, rank 2 on node7, step 55, train: rank 1 is gone");
  EXPECT_EQ(state.next_command, "mpirun -n 4 lockstep train a.toml");
}

TEST_F(RunInspectTest, DeadAfterKill) {
  const pid_t child = start_child([&] {
    auto* run = new RunDirectory(run_, log_);  // never destroyed, as after kill -9
    run->event("start", 0);
    run->append(row_of(70));
    return 0;
  });
  ASSERT_EQ(wait_for(child), 0);
  const RunState state = inspect_run(run_);
  EXPECT_EQ(state.state, "dead");
  EXPECT_EQ(state.step, 70);
  EXPECT_NE(state.cause.find("pid " + std::to_string(child)), std::string::npos) << state.cause;
  EXPECT_EQ(state.next_command, resume_command());
}

TEST_F(RunInspectTest, ADamagedNewestCheckpointIsPassedOver) {
  save(100);
  save(200);
  write(run_ + "/checkpoints/step_00000200/manifest.json", "{");
  const RunState state = inspect_run(run_);
  EXPECT_EQ(state.state, "dead");
  EXPECT_EQ(state.newest_checkpoint, run_ + "/checkpoints/step_00000100");
  EXPECT_EQ(state.step, 100);
}

TEST_F(RunInspectTest, CommandsCanBePasted) {
  run_ = scratch_ + "/it's here";
  std::filesystem::create_directories(run_);
  EXPECT_EQ(inspect_run(run_).next_command,
            "lockstep train CONFIG.toml '--run.dir=" + scratch_ + "/it'\\''s here'");
}

}  // namespace
}  // namespace lockstep::test
