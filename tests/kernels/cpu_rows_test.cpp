// The CPU backend's vectorised conversions agree bit for bit with the scalar ones in core/dtype.h,
// for every 16-bit pattern and for fp32 patterns of every exponent.
#include "kernels/cpu/rows.h"

#include "core/rng.h"

#include <gtest/gtest.h>

#include <bit>
#include <vector>

namespace lockstep::cpu {
namespace {

template <typename T>
void expect_every_pattern_loads(DType dtype) {
  std::vector<T> source(65536);
  for (std::uint32_t bits = 0; bits < source.size(); ++bits) {
    source[bits].bits = static_cast<std::uint16_t>(bits);
  }
  std::vector<float> loaded(source.size());
  load_row(loaded.data(), source.data(), dtype, 65536);
  for (std::size_t i = 0; i < source.size(); ++i) {
    const float expected = to_float(source[i]);
    const auto bits = std::bit_cast<std::uint32_t>(loaded[i]);
    // A signalling fp16 NaN may be quieted on the way.
    if (expected != expected) {
      ASSERT_TRUE(loaded[i] != loaded[i]) << i;
    } else {
      ASSERT_EQ(bits, std::bit_cast<std::uint32_t>(expected)) << i;
    }
  }
}

TEST(Rows, LoadsEveryPattern) {
  expect_every_pattern_loads<bf16>(DType::kBF16);
  expect_every_pattern_loads<f16>(DType::kF16);
}

// Random mantissas under every sign and exponent, and the ties between 16-bit neighbours.
std::vector<float> patterns() {
  std::vector<float> values;
  for (std::uint32_t high = 0; high < 512; ++high) {
    for (std::uint32_t i = 0; i < 64; ++i) {
      const std::uint32_t mantissa = philox(7, high * 64 + i)[0] & 0x7fffffu;
      values.push_back(std::bit_cast<float>((high << 23) | mantissa));
      values.push_back(std::bit_cast<float>((high << 23) | (mantissa & 0x7f8000u)));
      values.push_back(std::bit_cast<float>((high << 23) | (mantissa & 0x7ff000u)));
    }
  }
  values.resize(values.size() - 3);  // a length that is no multiple of 8
  return values;
}

template <typename T>
void expect_patterns_store(DType dtype) {
  const std::vector<float> values = patterns();
  std::vector<T> stored(values.size());
  store_row(stored.data(), values.data(), dtype, static_cast<std::int64_t>(values.size()));
  for (std::size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(stored[i].bits, from_float<T>(values[i]).bits)
        << std::bit_cast<std::uint32_t>(values[i]);
  }
}

TEST(Rows, StoresLikeTheScalarFunctions) {
  expect_patterns_store<bf16>(DType::kBF16);
  expect_patterns_store<f16>(DType::kF16);
}

TEST(Rows, AddsInFp32) {
  std::vector<bf16> row(300);
  std::vector<float> add(row.size());
  for (std::size_t i = 0; i < row.size(); ++i) {
    row[i] = to_bf16(1.0f + static_cast<float>(i));
    add[i] = 0.375f * static_cast<float>(i);
  }
  add_to_row(row.data(), add.data(), DType::kBF16, 300);
  for (std::size_t i = 0; i < row.size(); ++i) {
    const float sum = to_float(to_bf16(1.0f + static_cast<float>(i))) + add[i];
    ASSERT_EQ(row[i].bits, to_bf16(sum).bits) << i;
  }
}

}  // namespace
}  // namespace lockstep::cpu
