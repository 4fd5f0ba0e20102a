// Rank 0 prints to stdout and to its file; the others only warn, on stderr, with their rank.
#include "core/log.h"

#include "core/error.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace lockstep {
namespace {

TEST(Log, RankZeroPrintsAndKeeps) {
  const std::string path = std::filesystem::temp_directory_path() / "lockstep_log_test.log";
  std::filesystem::remove(path);
  testing::internal::CaptureStdout();
  {
    Log log(0);
    log.open_file(path);
    log.info("step {}", 3);
    log.warn("slow");
  }
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "step 3\nwarning: slow\n");
  std::ifstream file(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(file), {}), "step 3\nwarning: slow\n");
  std::filesystem::remove(path);
}

TEST(Log, OtherRanksOnlyWarn) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Log log(2);
  log.info("hidden");
  log.warn("late");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "rank 2: warning: late\n");
}

TEST(Log, AFileThatCannotBeOpenedIsAnError) {
  Log log(0);
  EXPECT_THROW(log.open_file("/proc/no/such/file"), UserError);
}

// A full disk ends the file, not the run.
TEST(Log, AFullDiskIsReportedOnce) {
  Log log(0);
  log.open_file("/dev/full");
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  log.info("one");
  log.info("two");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "one\ntwo\n");
  EXPECT_NE(testing::internal::GetCapturedStderr().find("No space left"), std::string::npos);
}

}  // namespace
}  // namespace lockstep
