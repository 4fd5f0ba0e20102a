// The run directory's records: rows and their names, the step line, cutting after a resume, torn
// lines, full disks, the failure record. The lock has its own test.
#include "trainer/run_directory.h"

#include "tests/trainer/run_fixture.h"

#include <nlohmann/json.hpp>

#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <limits>
#include <set>
#include <thread>

namespace lockstep::test {
namespace {

using Json = nlohmann::ordered_json;
constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

class RunDirectoryTest : public RunFixture {
 protected:
  std::string metrics() const { return run_ + "/metrics.jsonl"; }
  std::vector<std::int64_t> steps() const {
    std::vector<std::int64_t> all;
    for (const std::string& line : lines(metrics())) all.push_back(Json::parse(line)["step"]);
    return all;
  }
};

std::vector<std::string> keys(const Json& json) {
  std::vector<std::string> names;
  for (const auto& item : json.items()) names.push_back(item.key());
  return names;
}

MetricsRow sample_row() {
  MetricsRow row;
  row.step = 1200;
  row.updates = 1200;
  row.tokens = 629145600;
  row.loss = 1.84229;
  row.lr = 3e-4;
  row.grad_norm = 0.8149;
  row.loss_scale = 65536;
  row.step_ms = 412.3;
  row.tokens_per_second = 1.2712e6;
  row.mfu = 0.41234;
  row.memory_peak_bytes = 27.1 * 1073741824.0;
  return row;
}

MetricsRow row_of(std::int64_t step) {
  MetricsRow row;
  row.step = step;
  return row;
}

TEST(StepLine, IsTheContract) {
  EXPECT_EQ(step_line(sample_row(), 2000, 329.2),
            "step 1200/2000 | loss 1.8423 | lr 3.0e-04 | grad_norm 0.81 | scale 65536 | skipped 0 "
            "| 412 ms | 1.27M tok/s | mfu 41.2% | 27.1 GiB | eta 0:05:29");
}

TEST(StepLine, UnknownFieldsAreLeftOut) {
  MetricsRow row = sample_row();
  row.mfu.reset();
  row.memory_peak_bytes = kNan;
  EXPECT_EQ(step_line(row, 0, kInf),
            "step 1200 | loss 1.8423 | lr 3.0e-04 | grad_norm 0.81 | scale 65536 | skipped 0 "
            "| 412 ms | 1.27M tok/s");
  EXPECT_EQ(step_line(row, 0, -1.0), step_line(row, 0, kNan));
}

TEST(StepLine, ExtremesStayReadable) {
  MetricsRow row = sample_row();
  row.loss = kNan;
  row.grad_norm = kInf;
  row.loss_scale = 1073741824.0;
  row.tokens_per_second = 0.0;
  row.step_ms = 3.21;
  EXPECT_EQ(step_line(row, 2000, 90061),
            "step 1200/2000 | loss nan | lr 3.0e-04 | grad_norm inf | scale 1073741824 | skipped 0 "
            "| 3.2 ms | 0 tok/s | mfu 41.2% | 27.1 GiB | eta 25:01:01");
  row.loss = 1.7e38;
  row.grad_norm = 3.3e-7;
  row.loss_scale = 0.5;
  row.step_ms = kNan;
  row.tokens_per_second = kInf;
  EXPECT_EQ(step_line(row, 2000, 0),
            "step 1200/2000 | loss 1.7e+38 | lr 3.0e-04 | grad_norm 3.3e-07 | scale 0.5 "
            "| skipped 0 | - ms | - tok/s | mfu 41.2% | 27.1 GiB | eta 0:00:00");
}

TEST(StepLine, RatesKeepThreeDigits) {
  const auto rate = [](double tokens_per_second) {
    MetricsRow row;
    row.tokens_per_second = tokens_per_second;
    const std::string line = step_line(row, 0, kNan);
    const std::size_t end = line.find(" tok/s");
    const std::size_t begin = line.rfind("| ", end) + 2;
    return line.substr(begin, end - begin);
  };
  EXPECT_EQ(rate(982), "982");
  EXPECT_EQ(rate(999.6), "1.00k");
  EXPECT_EQ(rate(12345), "12.3k");
  EXPECT_EQ(rate(999600), "1.00M");
  EXPECT_EQ(rate(412345), "412k");
  EXPECT_EQ(rate(4.2e9), "4.20G");
}

TEST_F(RunDirectoryTest, RowsCarryTheContractsNames) {
  {
    RunDirectory run(run_, log_);
    run.append(sample_row());
    run.append(ValidationRow{.step = 1200, .tokens = 7, .val_loss = 1.9, .val_accuracy = 0.4});
  }
  const auto rows = lines(metrics());
  ASSERT_EQ(rows.size(), 2u);
  const Json row = Json::parse(rows[0]);
  EXPECT_EQ(keys(row), (std::vector<std::string>{
                           "step", "updates", "tokens", "loss", "lr", "grad_norm", "loss_scale",
                           "skipped", "step_ms", "comm_exposed_ms", "data_wait_ms",
                           "tokens_per_second", "mfu", "memory_peak_bytes", "time"}));
  EXPECT_EQ(row["loss"], 1.84229);
  EXPECT_EQ(row["tokens"], 629145600);
  EXPECT_TRUE(row["comm_exposed_ms"].is_null());
  const Json validation = Json::parse(rows[1]);
  EXPECT_EQ(keys(validation),
            (std::vector<std::string>{"step", "tokens", "val_loss", "val_accuracy", "time"}));
}

TEST_F(RunDirectoryTest, NonFiniteIsNull) {
  {
    RunDirectory run(run_, log_);
    MetricsRow row = sample_row();
    row.loss = kNan;
    row.grad_norm = kInf;
    row.mfu = kNan;
    run.append(row);
    run.append(ValidationRow{.step = 1, .tokens = 1, .val_loss = kInf, .val_accuracy = kNan});
  }
  const auto rows = lines(metrics());
  ASSERT_EQ(rows.size(), 2u);
  for (const char* name : {"loss", "grad_norm", "mfu"}) {
    EXPECT_TRUE(Json::parse(rows[0])[name].is_null()) << name;
  }
  EXPECT_TRUE(Json::parse(rows[1])["val_loss"].is_null());
}

TEST_F(RunDirectoryTest, ResumeCutsLaterRows) {
  {
    RunDirectory run(run_, log_);
    for (std::int64_t step = 10; step <= 50; step += 10) run.append(row_of(step));
    run.append(ValidationRow{.step = 30});
    run.append(ValidationRow{.step = 40});
  }
  {
    RunDirectory run(run_, log_);
    run.begin(30);
    run.append(row_of(40));
  }
  EXPECT_EQ(steps(), (std::vector<std::int64_t>{10, 20, 30, 30, 40}));
}

TEST_F(RunDirectoryTest, ResumeAfterOwnAppendsKeepsAppendingToTheNewFile) {
  RunDirectory run(run_, log_);
  for (std::int64_t step = 1; step <= 3; ++step) run.append(row_of(step));
  run.begin(2);
  run.append(row_of(3));
  EXPECT_EQ(steps(), (std::vector<std::int64_t>{1, 2, 3}));
}

TEST_F(RunDirectoryTest, NothingToCutLeavesTheFileAlone) {
  {
    RunDirectory run(run_, log_);
    run.append(row_of(10));
  }
  const ino_t before = inode(metrics());
  RunDirectory run(run_, log_);
  run.begin(10);
  EXPECT_EQ(inode(metrics()), before);
}

TEST_F(RunDirectoryTest, TornAndForeignLinesAreDropped) {
  const std::string zeros(100, '\0');
  write(metrics(),
        "{\"step\":1}\n" + zeros + "\n[5]\n{\"loss\":1}\n{\"step\":2}\n{\"step\":3,\"lo");
  write(run_ + "/events.jsonl", "{\"event\":\"start\"}\n{\"event\":\"sa");
  {
    RunDirectory run(run_, log_);
    run.begin(5);
    run.append(row_of(6));
    run.event("resume", 5);
  }
  EXPECT_EQ(steps(), (std::vector<std::int64_t>{1, 2, 6}));
  const auto events = lines(run_ + "/events.jsonl");
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(Json::parse(events[1])["event"], "resume");
}

TEST_F(RunDirectoryTest, EventsCarryTimeStepJobHostAndDetails) {
  ::setenv("SLURM_JOB_ID", "77", 1);
  {
    RunDirectory run(run_, log_);
    run.event("save", 500, {{"path", "step_00000500"}, {"seconds", 1.5}});
    run.event("stop", 501);
  }
  ::unsetenv("SLURM_JOB_ID");
  const auto events = lines(run_ + "/events.jsonl");
  ASSERT_EQ(events.size(), 2u);
  const Json save = Json::parse(events[0]);
  EXPECT_EQ(keys(save), (std::vector<std::string>{"event", "time", "step", "job", "restart", "host",
                                                  "path", "seconds"}));
  EXPECT_EQ(save["job"], "77");
  EXPECT_EQ(save["step"], 500);
}

TEST_F(RunDirectoryTest, JobNamesTheArrayTask) {
  ::setenv("SLURM_JOB_ID", "78", 1);
  ::setenv("SLURM_ARRAY_JOB_ID", "77", 1);
  ::setenv("SLURM_ARRAY_TASK_ID", "3", 1);
  EXPECT_EQ(job_id(), "77_3");
  ::unsetenv("SLURM_ARRAY_TASK_ID");
  EXPECT_EQ(job_id(), "78");
  ::unsetenv("SLURM_ARRAY_JOB_ID");
  ::unsetenv("SLURM_JOB_ID");
  EXPECT_EQ(job_id(), "");
}

TEST(Time, IsIso8601InUtc) {
  const std::string now = utc_now();
  const std::string pattern = "0000-00-00T00:00:00.000Z";
  ASSERT_EQ(now.size(), pattern.size()) << now;
  for (std::size_t i = 0; i < now.size(); ++i) {
    if (pattern[i] == '0') {
      EXPECT_TRUE(now[i] >= '0' && now[i] <= '9') << now;
    } else {
      EXPECT_EQ(now[i], pattern[i]) << now;
    }
  }
}

TEST_F(RunDirectoryTest, FullDiskDoesNotStopTheRunButTheCheckpoint) {
  std::filesystem::create_directories(run_);
  std::filesystem::create_symlink("/dev/full", metrics());
  ::testing::internal::CaptureStdout();
  const auto caught = [&] {
    RunDirectory run(run_, log_);
    run.append(row_of(1));
    run.append(row_of(2));
    return error_of([&] { run.sync(); });
  }();
  const std::string printed = ::testing::internal::GetCapturedStdout();
  EXPECT_EQ(caught.code, ExitCode::kIo);
  EXPECT_NE(caught.message.find("metrics.jsonl"), std::string::npos) << caught.message;
  EXPECT_NE(caught.message.find("No space left"), std::string::npos) << caught.message;
  const std::size_t first = printed.find("No space left");
  EXPECT_NE(first, std::string::npos) << printed;
  EXPECT_EQ(printed.find("No space left", first + 1), std::string::npos) << printed;
}

// A file-size limit stops a write in the middle of a line; when it is lifted, the rest follows.
TEST_F(RunDirectoryTest, WritesHeldBackArriveWholeWhenThereIsSpaceAgain) {
  const pid_t child = start_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    RunDirectory run(run_, log_);
    rlimit limit{};
    ::getrlimit(RLIMIT_FSIZE, &limit);
    const rlimit small{1000, limit.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
    for (std::int64_t step = 1; step <= 20; ++step) run.append(row_of(step));
    ::setrlimit(RLIMIT_FSIZE, &limit);
    run.append(row_of(21));
    run.sync();
    return 0;
  });
  ASSERT_EQ(wait_for(child), 0);
  const auto all = steps();
  ASSERT_EQ(all.size(), 21u);
  for (std::int64_t i = 0; i < 21; ++i) EXPECT_EQ(all[static_cast<std::size_t>(i)], i + 1);
}

TEST_F(RunDirectoryTest, UnusablePathsAreIoErrorsThatNameThem) {
  write(scratch_ + "/file", "x");
  const auto below = error_of([&] { RunDirectory run(scratch_ + "/file/run", log_); });
  EXPECT_EQ(below.code, ExitCode::kIo);
  EXPECT_NE(below.message.find(scratch_ + "/file: is a file where"), std::string::npos)
      << below.message;
  const auto file = error_of([&] { RunDirectory run(scratch_ + "/file", log_); });
  EXPECT_EQ(file.code, ExitCode::kIo);
  const auto unwritable = error_of([&] { RunDirectory run("/proc/self", log_); });
  EXPECT_EQ(unwritable.code, ExitCode::kIo);
  EXPECT_NE(unwritable.message.find("/proc/self"), std::string::npos) << unwritable.message;
}

TEST_F(RunDirectoryTest, ConfigIsReplacedWholeAndNothingIsLeftBeside) {
  {
    RunDirectory run(run_, log_);
    EXPECT_EQ(run.path(), run_);
    EXPECT_EQ(run.checkpoints(), run_ + "/checkpoints");
    run.write_config("[run]\nname = \"a\"\n");
    run.write_config("[run]\n");
  }
  EXPECT_EQ(read(run_ + "/config.toml"), "[run]\n");
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(run_)) {
    names.insert(entry.path().filename());
  }
  EXPECT_EQ(names, (std::set<std::string>{"checkpoints", "config.toml"}));
}

// Not at the first save, after an hour of work.
TEST_F(RunDirectoryTest, CheckpointsThatLeadNowhereAreRefusedAtOnce) {
  std::filesystem::create_directories(run_);
  std::filesystem::create_symlink("/nowhere/at-all", run_ + "/checkpoints");
  const Caught caught = error_of([&] { const RunDirectory run(run_, log_); });
  EXPECT_EQ(caught.code, ExitCode::kIo);
  EXPECT_NE(caught.message.find("checkpoints: is a link to /nowhere/at-all"), std::string::npos);
}

FailureRecord sample_failure(int rank) {
  return {.exit_code = 76,
          .rank = rank,
          .host = "node7",
          .pid = 4711,
          .step = 1300,
          .phase = "train",
          .message = "rank 1 is gone",
          .newest_checkpoint = "runs/a/checkpoints/step_00001200",
          .next_command = "lockstep train runs/a/config.toml --run.dir=runs/a"};
}

TEST_F(RunDirectoryTest, FirstFailureWins) {
  std::filesystem::create_directories(run_);
  EXPECT_FALSE(read_failure(run_).has_value());
  record_failure(run_, sample_failure(3));
  record_failure(run_, sample_failure(1));
  const auto record = read_failure(run_);
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->rank, 3);
  EXPECT_EQ(record->exit_code, 76);
  EXPECT_EQ(record->pid, 4711);
  EXPECT_EQ(record->message, "rank 1 is gone");
  EXPECT_EQ(record->next_command, sample_failure(3).next_command);
}

TEST_F(RunDirectoryTest, ManyFailuresAtOnceLeaveOneWholeRecord) {
  std::filesystem::create_directories(run_);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 8; ++rank) {
    threads.emplace_back([this, rank] { record_failure(run_, sample_failure(rank)); });
  }
  for (std::thread& thread : threads) thread.join();
  const auto record = read_failure(run_);
  ASSERT_TRUE(record.has_value());
  EXPECT_EQ(record->host, "node7");
  const std::filesystem::directory_iterator files(run_);
  EXPECT_EQ(std::distance(begin(files), end(files)), 1) << "temporary files are left";
}

TEST_F(RunDirectoryTest, AFailureThatCannotBeRecordedIsSilent) {
  record_failure(scratch_ + "/nowhere", sample_failure(0));
  EXPECT_FALSE(read_failure(scratch_ + "/nowhere").has_value());
}

// An earlier attempt's record goes when the lock is taken; what fails after that stays recorded.
TEST_F(RunDirectoryTest, TheFailureOfTheLastAttemptGoesAndThisOnesStays) {
  std::filesystem::create_directories(run_);
  record_failure(run_, sample_failure(0));
  ASSERT_TRUE(read_failure(run_).has_value());
  RunDirectory run(run_, log_);
  EXPECT_FALSE(read_failure(run_).has_value());
  record_failure(run_, sample_failure(1));
  run.begin(0);
  EXPECT_EQ(read_failure(run_)->rank, 1);
}

TEST_F(RunDirectoryTest, KnowsWhichStepsWereValidated) {
  RunDirectory run(run_, log_);
  EXPECT_FALSE(run.has_validation(10));
  run.append(MetricsRow{.step = 10});
  EXPECT_FALSE(run.has_validation(10));
  run.append(ValidationRow{.step = 10, .tokens = 1, .val_loss = 2.0, .val_accuracy = 0.5});
  EXPECT_TRUE(run.has_validation(10));
  EXPECT_FALSE(run.has_validation(1));
  EXPECT_FALSE(run.has_validation(100));
}

// The watchdog reports from a thread of its own.
TEST_F(RunDirectoryTest, EventsOfSeveralThreadsStayWhole) {
  constexpr int kThreads = 4;
  constexpr int kEvents = 200;
  // Long ones, so that the threads meet in the file.
  const EventDetails details = {{"path", std::string(50000, 'x')}};
  RunDirectory run(run_, log_);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&] {
      for (int i = 0; i < kEvents; ++i) run.event("save", i, details);
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::vector<std::string> all = lines(run_ + "/events.jsonl");
  EXPECT_EQ(all.size(), std::size_t{kThreads * kEvents});
  for (const std::string& line : all) EXPECT_TRUE(nlohmann::json::accept(line)) << line;
}

}  // namespace
}  // namespace lockstep::test
