// Rounding to 16 bits: every bit pattern comes back, ties go to even, and the edges are right.
#include "core/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace lockstep {
namespace {

TEST(DType, EveryHalfComesBack) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const f16 half{static_cast<std::uint16_t>(bits)};
    const bf16 brain{static_cast<std::uint16_t>(bits)};
    if (!std::isnan(to_float(half))) {
      ASSERT_EQ(to_f16(to_float(half)).bits, bits);
    }
    if (!std::isnan(to_float(brain))) {
      ASSERT_EQ(to_bf16(to_float(brain)).bits, bits);
    }
    ASSERT_EQ(std::isnan(to_float(half)), std::isnan(to_float(to_f16(to_float(half)))));
    ASSERT_EQ(std::isnan(to_float(brain)), std::isnan(to_float(to_bf16(to_float(brain)))));
  }
}

// The nearest neighbour by exhaustive comparison of the two candidates around x.
template <typename T>
void expect_nearest(float x, T rounded, T below, T above) {
  const double down = std::abs(static_cast<double>(x) - to_float(below));
  const double up = std::abs(static_cast<double>(to_float(above)) - x);
  if (down == up) {
    EXPECT_EQ(rounded.bits, (below.bits & 1u) == 0 ? below.bits : above.bits) << x;
  } else {
    EXPECT_EQ(rounded.bits, down < up ? below.bits : above.bits) << x;
  }
}

TEST(DType, RoundsToNearestEven) {
  for (std::uint32_t bits = 0; bits < 0x7bff; bits += 7) {  // all finite halves but the largest
    const f16 below{static_cast<std::uint16_t>(bits)};
    const f16 above{static_cast<std::uint16_t>(bits + 1)};
    const float lo = to_float(below), hi = to_float(above);
    for (const float t : {0.25f, 0.5f, 0.75f}) {
      const float x = lo + (hi - lo) * t;
      expect_nearest(x, to_f16(x), below, above);
    }
  }
  for (std::uint32_t bits = 0x0080; bits < 0x7f7f; bits += 11) {
    const bf16 below{static_cast<std::uint16_t>(bits)};
    const bf16 above{static_cast<std::uint16_t>(bits + 1)};
    const float lo = to_float(below), hi = to_float(above);
    for (const float t : {0.25f, 0.5f, 0.75f}) {
      const float x = lo + (hi - lo) * t;
      expect_nearest(x, to_bf16(x), below, above);
    }
  }
}

TEST(DType, Edges) {
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(to_f16(65504.0f).bits, 0x7bff);
  EXPECT_EQ(to_f16(65519.99f).bits, 0x7bff);
  EXPECT_EQ(to_f16(65520.0f).bits, 0x7c00);  // the tie goes to the even infinity
  EXPECT_EQ(to_f16(-inf).bits, 0xfc00);
  EXPECT_EQ(to_f16(0x1p-24f).bits, 0x0001);
  EXPECT_EQ(to_f16(0x1p-25f).bits, 0x0000);  // tie to even
  EXPECT_EQ(to_f16(-0.0f).bits, 0x8000);
  EXPECT_EQ(to_bf16(inf).bits, 0x7f80);
  EXPECT_EQ(to_bf16(std::numeric_limits<float>::max()).bits, 0x7f80);
  EXPECT_TRUE(std::isnan(to_float(to_f16(std::nanf("")))));
  EXPECT_TRUE(std::isnan(to_float(to_bf16(std::nanf("")))));
}

}  // namespace
}  // namespace lockstep
