// Names, the tokenizer beside the data, batch and steps of a run, and the time limit that Slurm
// gives.
#include "app/run_setup.h"

#include "core/error.h"
#include "data/prepare.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fstream>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

class RunSetup : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::temp_directory_path() / "lockstep_run_setup_test";
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    std::ofstream(folder_ / "text.txt") << std::string(4000, 'a') + std::string(4000, 'b');
    PrepareOptions prepared;
    prepared.inputs = {folder_ / "text.txt"};
    prepared.out = folder_ / "data";
    prepare(prepared);
    options_.data.train = {folder_ / "data"};
    options_.train.steps = 10;
    options_.model.seq_len = 16;
  }
  void TearDown() override {
    fs::remove_all(folder_);
    for (const char* name : {"SLURM_JOB_END_TIME", "SLURM_JOB_ID"}) unsetenv(name);
  }
  ExitCode refusal(int world = 1) {
    try {
      set_up_run(options_, world);
    } catch (const UserError& error) {
      return error.code();
    }
    return ExitCode::kDone;
  }

  fs::path folder_;
  Options options_;
  Log log_{1};
};

TEST_F(RunSetup, NamesComeFromTheConfig) {
  name_run(options_, "some/where/tiny.toml");
  EXPECT_EQ(options_.run.name, "tiny");
  EXPECT_EQ(options_.run.dir, "runs/tiny");
}

TEST_F(RunSetup, TheTokenizerLiesBesideTheData) {
  const std::string beside = (folder_ / "data" / "tokenizer").string() + " of data.train";
  EXPECT_EQ(open_data_tokenizer(options_.data).where, beside);
  options_.data.train = {"0.5:" + (folder_ / "data" / "train_*.bin").string()};
  EXPECT_EQ(open_data_tokenizer(options_.data).where, beside);
  EXPECT_EQ(tokenizer_vocab(options_.data), 256);
  options_.data.train = {(folder_ / "d*").string()};  // a glob of directories
  EXPECT_EQ(open_data_tokenizer(options_.data).where, beside);
  options_.data.train = {folder_ / "text.txt"};
  EXPECT_EQ(open_data_tokenizer(options_.data).tokenizer, nullptr);
  options_.data.tokenizer = "byte";
  EXPECT_EQ(open_data_tokenizer(options_.data).where, "byte of data.tokenizer");
}

TEST_F(RunSetup, DataOfAnotherTokenizerAreRefusedUnlessAllowed) {
  PrepareOptions other;
  other.inputs = {folder_ / "text.txt"};
  other.out = folder_ / "other";
  other.tokenizer = "bpe:260";
  prepare(other);
  options_.model.vocab = 300;
  options_.data.val = {folder_ / "other"};
  EXPECT_EQ(refusal(), ExitCode::kConfig);
  options_.data.val.clear();
  options_.data.train.push_back(folder_ / "other");
  EXPECT_EQ(refusal(), ExitCode::kConfig);
  options_.data.allow_other_tokenizer = true;
  EXPECT_EQ(refusal(), ExitCode::kDone);
  options_ = {};
  options_.data.train = {folder_ / "data"};
  options_.data.tokenizer = (folder_ / "other").string();
  options_.train.steps = 1;
  EXPECT_EQ(refusal(), ExitCode::kConfig);
}

TEST_F(RunSetup, BatchAndStepsFollow) {
  options_.train.micro_batch_size = 2;
  options_.train.global_batch_size = 12;
  options_.train.steps = 0;
  options_.train.epochs = 1.0;
  const RunData run = set_up_run(options_, /*world=*/3);
  EXPECT_EQ(run.accumulation, 2);
  EXPECT_EQ(run.steps, (run.train->samples() + 11) / 12);
  EXPECT_EQ(options_.model.vocab, 256);
  EXPECT_EQ(run.val, nullptr);
}

TEST_F(RunSetup, RefusesWhatCannotRun) {
  EXPECT_EQ(refusal(), ExitCode::kDone);
  options_.train.epochs = 1.0;
  EXPECT_EQ(refusal(), ExitCode::kConfig);  // steps and epochs
  options_.train.epochs = 0.0;
  options_.train.global_batch_size = 3;
  EXPECT_EQ(refusal(/*world=*/2), ExitCode::kConfig);
  options_.data.train = {folder_ / "nowhere"};
  EXPECT_EQ(refusal(), ExitCode::kData);
  options_.data.train.clear();
  EXPECT_EQ(refusal(), ExitCode::kConfig);
}

TEST_F(RunSetup, MinutesCountFromProcessStart) {
  EXPECT_EQ(time_limit_seconds(options_.train, log_), 0.0);
  options_.train.time_limit_minutes = 1.5;
  EXPECT_EQ(time_limit_seconds(options_.train, log_), 90.0);
  EXPECT_GE(process_age_seconds(), 0.0);
  EXPECT_LT(process_age_seconds(), 300.0);  // the test's own time limit
}

TEST_F(RunSetup, SlurmTellsTheEnd) {
  options_.train.time_limit_minutes = TimeLimit::kAuto;
  EXPECT_EQ(time_limit_seconds(options_.train, log_), 0.0);  // no job: warned, no limit
  setenv("SLURM_JOB_END_TIME", std::to_string(std::time(nullptr) + 600).c_str(), 1);
  // A second may pass between the two clock readings, and the process is some seconds old.
  EXPECT_NEAR(time_limit_seconds(options_.train, log_) - process_age_seconds(), 600.0, 2.0);
}

// Older Slurm has no SLURM_JOB_END_TIME; squeue prints what is left.
TEST_F(RunSetup, SqueueIsAskedInItsOwnWords) {
  options_.train.time_limit_minutes = TimeLimit::kAuto;
  setenv("SLURM_JOB_ID", "4711", 1);
  const std::string path = std::getenv("PATH");
  setenv("PATH", (folder_.string() + ":" + path).c_str(), 1);
  const auto left = [&](const std::string& answer) {
    const std::string stub = folder_ / "squeue";
    std::ofstream(stub) << "#!/bin/sh\n[ \"$2\" = --jobs=4711 ] && echo '" << answer << "'\n";
    chmod(stub.c_str(), 0755);
    const double limit = time_limit_seconds(options_.train, log_);
    return limit == 0.0 ? -1.0 : limit - process_age_seconds();
  };
  EXPECT_NEAR(left("1-02:03:04"), 93784.0, 2.0);
  EXPECT_NEAR(left("2:03:04"), 7384.0, 2.0);
  EXPECT_NEAR(left("03:04"), 184.0, 2.0);
  EXPECT_EQ(left("UNLIMITED"), -1.0);
  EXPECT_EQ(left(""), -1.0);
  setenv("PATH", path.c_str(), 1);
}

TEST_F(RunSetup, WithoutAnIntervalCheckpointsComeEveryThirtyMinutes) {
  const auto resolved = [](std::int64_t interval, WordOrNumber<SaveInterval> minutes) {
    CheckpointOptions checkpoint{.interval = interval, .interval_minutes = minutes};
    resolve_checkpoint(checkpoint);
    return std::get<double>(checkpoint.interval_minutes);
  };
  EXPECT_EQ(resolved(0, SaveInterval::kAuto), 30.0);
  EXPECT_EQ(resolved(100, SaveInterval::kAuto), 0.0);
  EXPECT_EQ(resolved(0, 0.0), 0.0);  // never, when the user says so
  EXPECT_EQ(resolved(100, 5.0), 5.0);
  set_up_run(options_, 1);
  EXPECT_EQ(std::get<double>(options_.checkpoint.interval_minutes), 30.0);  // what is dumped
  EXPECT_EQ(save_interval_seconds(options_.checkpoint), 1800.0);
  EXPECT_EQ(saving_text(options_.checkpoint), "every 30 minutes, at the end and on a stop");
}

TEST_F(RunSetup, OnlyTheSizesThatAModelHasAreSaid) {
  EXPECT_EQ(sizes_text({.layers = 2, .heads = 4, .kv_heads = 2, .hidden = 64, .vocab = 272}),
            "2 layers, 4 heads (2 key/value), hidden 64, vocabulary 272");
  EXPECT_EQ(sizes_text({.layers = 2, .hidden = 64}), "2 layers, hidden 64");
}

TEST_F(RunSetup, AsynchronousSavingIsRefused) {
  EXPECT_EQ(refusal(), ExitCode::kDone);
  options_.checkpoint.async = true;
  EXPECT_EQ(refusal(), ExitCode::kConfig);
}

TEST_F(RunSetup, MoreTokensThanCanBeCountedAreRefused) {
  options_.train.steps = std::int64_t{1} << 60;
  EXPECT_EQ(refusal(), ExitCode::kConfig);
  options_.train.steps = 0;
  options_.train.epochs = 1e300;
  EXPECT_EQ(refusal(), ExitCode::kConfig);
}

}  // namespace
}  // namespace lockstep
