// Whether a job runs again, over records as training writes them.
#include "trainer/run_again.h"

#include "core/log.h"
#include "trainer/run_directory.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

class RunAgainTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(run_);
    setenv("SLURM_JOB_ID", "7", 1);
  }
  void TearDown() override {
    fs::remove_all(run_);
    unsetenv("SLURM_JOB_ID");
    unsetenv("SLURM_RESTART_COUNT");
  }
  // What an attempt of job 7 leaves: a checkpoint, an end, a failure.
  void attempt(int restart, std::int64_t saved = -1, const std::string& end = "",
               int failed_with = 0) {
    setenv("SLURM_RESTART_COUNT", std::to_string(restart).c_str(), 1);
    RunDirectory directory(run_, log_);
    directory.event("resume", 0);
    if (saved >= 0) directory.event("save", saved);
    if (!end.empty()) directory.event("stop", saved, {{"state", end}});
    if (failed_with != 0) {
      record_failure(run_, {.exit_code = failed_with, .message = "the cause"});
    }
  }
  RunAgain judge(int code, int restart, const std::string& job = "7") const {
    return judge_end(run_, {.exit_code = code, .job = job, .restart = restart, .allowed = 3});
  }

  std::string run_ = fs::temp_directory_path() / "lockstep_run_again_test";
  Log log_{1};
};

TEST_F(RunAgainTest, AStoppedRunGoesOnAndAFinishedOneDoesNot) {
  attempt(0, 100, "stopped");
  EXPECT_TRUE(judge(75, 0).again);
  EXPECT_NE(judge(75, 0).why.find("step 100"), std::string::npos) << judge(75, 0).why;
  EXPECT_TRUE(judge(137, 0).again) << "a rank was swept away after all was saved";
  EXPECT_EQ(judge(137, 0).why, judge(75, 0).why);
  attempt(1, 200, "finished");
  EXPECT_FALSE(judge(137, 1).again);
}

TEST_F(RunAgainTest, SomeErrorsNeedAPerson) {
  for (const int code : {64, 65, 70, 77, 78, 130}) EXPECT_FALSE(judge(code, 0).again) << code;
  for (const int code : {74, 76, 137, 205}) EXPECT_TRUE(judge(code, 0).again) << code;
  attempt(0, -1, "", 70);
  EXPECT_FALSE(judge(137, 0).again) << "the record tells what the launcher's code hides";
  EXPECT_NE(judge(137, 0).why.find("the cause"), std::string::npos);
  EXPECT_TRUE(judge(137, 1).again) << "an earlier attempt's record";
}

TEST_F(RunAgainTest, GivesUpAfterRestartsWithoutANewCheckpoint) {
  for (int restart = 0; restart < 3; ++restart) EXPECT_TRUE(judge(137, restart).again) << restart;
  EXPECT_FALSE(judge(137, 3).again) << "nothing was ever written";
  attempt(2, 100);
  for (int restart = 3; restart < 5; ++restart) EXPECT_TRUE(judge(137, restart).again) << restart;
  EXPECT_FALSE(judge(137, 5).again);
  attempt(4, 100);
  EXPECT_FALSE(judge(137, 5).again) << "the same step again is no progress";
  attempt(4, 200);
  EXPECT_TRUE(judge(137, 5).again);
  EXPECT_FALSE(judge(75, 7).again) << "stopping before the first new step, again and again";
}

TEST_F(RunAgainTest, ANewJobBeginsToCountAnew) {
  attempt(2, 100);
  EXPECT_FALSE(judge(137, 5).again);
  EXPECT_TRUE(judge(137, 0, "8").again);
  EXPECT_FALSE(judge(137, 3, "8").again) << "an earlier job's checkpoint is not this one's";
}

TEST_F(RunAgainTest, TornAndForeignLinesArePassedOver) {
  attempt(0, 100);
  RunDirectory(run_, log_).event("save", 300, {{"job", 7}, {"restart", "x"}});
  EXPECT_NE(judge(137, 0).why.find("step 100"), std::string::npos) << judge(137, 0).why;
}

}  // namespace
}  // namespace lockstep
