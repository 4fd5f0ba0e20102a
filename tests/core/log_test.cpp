// Rank 0 prints to stdout and to its sink; the others only warn, on stderr, with their rank.
#include "core/log.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>

namespace lockstep {
namespace {

TEST(Log, RankZeroPrintsAndKeeps) {
  std::string kept;
  const auto keep = [&](const std::string& line) {
    kept += line;
    return 0;
  };
  testing::internal::CaptureStdout();
  Log log(0), other(1);
  log.keep_in(keep);
  other.keep_in(keep);
  log.info("step {}", 3);
  log.warn("slow");
  other.info("hidden");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "step 3\nwarning: slow\n");
  EXPECT_EQ(kept, "step 3\nwarning: slow\n");
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

// A full disk ends what is kept, not the run.
TEST(Log, AFailingSinkIsReportedOnce) {
  Log log(0);
  int calls = 0;
  log.keep_in([&](const std::string&) {
    ++calls;
    return ENOSPC;
  });
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  log.info("one");
  log.info("two");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "one\ntwo\n");
  EXPECT_NE(testing::internal::GetCapturedStderr().find("No space left"), std::string::npos);
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace lockstep
