// Rounding to int8 per row.
#include "compress/quantize.h"

#include "core/error.h"

#include <algorithm>
#include <cmath>

namespace lockstep {
namespace {

// The gap above 1: any positive scale does for a row of zeros, and this one exists in every type.
float epsilon_of(DType dtype) {
  if (dtype == DType::kBF16) return 0x1p-7f;
  return dtype == DType::kF16 ? 0x1p-10f : 0x1p-23f;
}

float scale_of(std::span<const float> row, DType dtype) {
  float largest = 0.0f;
  for (const float x : row) largest = std::max(largest, std::fabs(x));
  const float scale = rounded_to(largest / 127.5f, dtype);
  return scale > 0.0f ? scale : epsilon_of(dtype);
}

}  // namespace

float rounded_to(float x, DType dtype) {
  switch (dtype) {
    case DType::kBF16: return to_float(to_bf16(x));
    case DType::kF16: return to_float(to_f16(x));
    default: return x;
  }
}

Int8Rows quantize_rows(std::span<const float> rows, std::int64_t cols, DType scale_dtype) {
  const auto width = static_cast<std::size_t>(cols);
  CHECK(width > 0 && rows.size() % width == 0, "{} values in rows of {}", rows.size(), width);
  Int8Rows out;
  out.values.resize(rows.size());
  for (std::size_t begin = 0; begin < rows.size(); begin += width) {
    const float scale = scale_of(rows.subspan(begin, width), scale_dtype);
    for (std::size_t i = begin; i < begin + width; ++i) {
      const float step = std::clamp(std::nearbyint(rows[i] / scale), -128.0f, 127.0f);
      out.values[i] = static_cast<std::int8_t>(step);
    }
    out.scales.push_back(scale);
  }
  return out;
}

}  // namespace lockstep
