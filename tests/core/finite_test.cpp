// NaN and infinities are found wherever they stand; everything else is finite.
#include "core/finite.h"

#include "core/error.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace lockstep {
namespace {

TEST(Finite, FindsTheFirstOfEachKind) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const std::size_t size : {std::size_t{1}, std::size_t{4096}, std::size_t{10001}}) {
    std::vector<float> values(size, 0x1.fffffep127f);  // the largest number
    values[size / 2] = -std::numeric_limits<float>::denorm_min();
    EXPECT_EQ(first_not_finite(values), size);
    for (const float bad : {std::nanf(""), -std::nanf(""), kInfinity, -kInfinity}) {
      for (const std::size_t at : {size - 1, size / 3, std::size_t{0}}) {
        std::vector<float> spoilt = values;
        spoilt[at] = bad;
        spoilt.back() = bad;
        EXPECT_EQ(first_not_finite(spoilt), at);
      }
    }
  }
  EXPECT_EQ(first_not_finite({}), 0u);
}

TEST(Finite, TheMessageNamesFileTensorAndKind) {
  const auto message = [](float value) {
    try {
      require_finite(std::vector<float>{1.0f, value}, "m.gguf", "lm_head.weight");
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::kData);
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message(2.0f), "");
  EXPECT_EQ(message(std::nanf("")).rfind("m.gguf: tensor lm_head.weight holds NaN: ", 0), 0u);
  EXPECT_NE(message(HUGE_VALF).find("holds infinity"), std::string::npos);
}

}  // namespace
}  // namespace lockstep
