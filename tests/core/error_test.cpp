// Errors carry code, line and values; suggestions are near or absent.
#include "core/error.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <vector>

namespace lockstep {
namespace {

TEST(Error, UserErrorCarriesCodeAndText) {
  try {
    fail(ExitCode::kIo, "{}: {} bytes", "a.bin", 7);
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kIo);
    EXPECT_STREQ(error.what(), "a.bin: 7 bytes");
  }
}

TEST(Error, CheckNamesExpressionPlaceAndValues) {
  const int rows = 3;
  EXPECT_NO_THROW(CHECK(rows == 3));
  try {
    CHECK(rows == 4, "rows {}", rows);
    FAIL();
  } catch (const CheckError& error) {
    const std::string what = error.what();
    EXPECT_NE(what.find("rows == 4"), std::string::npos);
    EXPECT_NE(what.find("error_test.cpp:"), std::string::npos);
    EXPECT_NE(what.find("rows 3"), std::string::npos);
  }
}

TEST(Error, NearestSuggestsOnlyWhatIsNear) {
  const std::vector<std::string> keys = {"optimizer.lr", "optimizer.beta1", "train.steps"};
  EXPECT_EQ(nearest("optimizer.lrr", keys), "optimizer.lr");
  EXPECT_EQ(nearest("train.step", keys), "train.steps");
  EXPECT_EQ(nearest("zzzz", keys), "");
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
}

TEST(Error, ErrnoText) { EXPECT_EQ(errno_text(ENOSPC), "No space left on device"); }

}  // namespace
}  // namespace lockstep
