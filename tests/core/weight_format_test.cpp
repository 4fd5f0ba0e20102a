// Every format comes back within its rounding; int8 per row: the scale, its rounding to the stored
// type, and the ends of the range.
#include "core/weight_format.h"

#include "core/error.h"
#include "support/support.h"

#include <algorithm>
#include <cmath>

namespace lockstep {
namespace {

std::vector<float> random_floats(std::int64_t count, double scale) {
  const std::vector<double> values = test::random_values(count, 3, scale);
  return {values.begin(), values.end()};
}

// Plain formats come back as they were; blocks within half a step of their scale.
TEST(WeightFormat, EncodesAndDecodes) {
  constexpr std::int64_t kRows = 5, kCols = 96;
  const std::vector<float> rows = random_floats(kRows * kCols, 0.4);
  for (const WeightFormat format : {WeightFormat::kF32, WeightFormat::kBF16, WeightFormat::kF16,
                                    WeightFormat::kInt8Rows, WeightFormat::kQ8_0}) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(kRows * row_bytes(format, kCols)));
    std::vector<float> scales(geometry_of(format).row_scales ? kRows : 0);
    encode_rows(format, rows, kCols, bytes, scales);
    std::vector<float> back(rows.size());
    decode_values(back, format, bytes.data(), scales.data(), kCols, /*first=*/0);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const float bound = is_plain(format) ? std::fabs(rows[i]) * 0x1p-8f : 0.4f / 127.0f * 0.52f;
      const float end = format == WeightFormat::kInt8Rows ? 0.4f / 127.0f : 0.0f;  // 127.5 is 127
      ASSERT_NEAR(back[i], rows[i], bound + end) << name_of(format) << " " << i;
    }
    std::vector<float> part(50);  // from the middle of a row and of a block
    decode_values(part, format, bytes.data(), scales.data(), kCols, /*first=*/77);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), back.begin() + 77)) << name_of(format);
  }
  EXPECT_THROW(row_bytes(WeightFormat::kQ8_0, 33), CheckError);
}

TEST(Quantize, KnownRows) {
  // 127.5 steps round to 127 above and, ties to even, to -128 below; halves go to even.
  const std::vector<float> rows = {127.5f, -127.5f, 2.5f, -1.5f, 0.0f, 0.0f, 0.0f, 0.0f};
  const Int8Rows out = quantize_rows(rows, 4, DType::kF32);
  EXPECT_EQ(out.values, (std::vector<std::int8_t>{127, -128, 2, -2, 0, 0, 0, 0}));
  EXPECT_EQ(out.scales, (std::vector<float>{1.0f, 0x1p-23f}));
}

// Every value is within half a step of its own, half a step more at the upper end, where 127.5
// steps become 127; rounding the scale to 8 bits moves the end by 127.5 * 2^-9 of a step or less.
TEST(Quantize, ErrorIsHalfAStep) {
  constexpr std::int64_t kRows = 64, kCols = 129;
  const std::vector<float> rows = random_floats(kRows * kCols, 0.05);
  for (const DType dtype : test::kStorageTypes) {
    const Int8Rows out = quantize_rows(rows, kCols, dtype);
    ASSERT_EQ(out.scales.size(), static_cast<std::size_t>(kRows));
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const double scale = static_cast<double>(out.scales[i / kCols]);
      const double error = std::fabs(out.values[i] * scale - static_cast<double>(rows[i]));
      const double end = std::abs(out.values[i]) >= 127 ? 0.5 : 0.001;
      EXPECT_LE(error, (0.5 + end) * scale) << name_of(dtype) << " " << i;
    }
  }
}

TEST(Quantize, ScalesAreThoseOfTheStoredType) {
  const std::vector<float> rows = random_floats(32 * 16, 0.3);
  for (const DType dtype : test::kStorageTypes) {
    const Int8Rows out = quantize_rows(rows, 16, dtype);
    for (std::size_t row = 0; row < out.scales.size(); ++row) {
      float largest = 0.0f;
      for (std::size_t i = 0; i < 16; ++i) {
        largest = std::max(largest, std::fabs(rows[row * 16 + i]));
      }
      EXPECT_EQ(out.scales[row], rounded_to(largest / 127.5f, dtype));
      EXPECT_EQ(out.scales[row], rounded_to(out.scales[row], dtype));
    }
  }
}

// A row too small for an fp16 scale becomes zeros, with a scale that can be divided by.
TEST(Quantize, TinyRows) {
  const Int8Rows out = quantize_rows(std::vector<float>{1e-7f, -1e-7f}, 2, DType::kF16);
  EXPECT_EQ(out.values, (std::vector<std::int8_t>{0, 0}));
  EXPECT_EQ(out.scales, std::vector<float>{0x1p-10f});
}

TEST(Quantize, WantsWholeRows) {
  EXPECT_THROW(quantize_rows(std::vector<float>(5), 2, DType::kF32), CheckError);
}

}  // namespace
}  // namespace lockstep
