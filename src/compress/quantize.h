// Symmetric int8 with one scale per row, the output channel of a linear map: w ~ q * scale.
// scale = max|w| / 127.5, so that the range -128 .. 127 is used on both sides, rounded to the type
// it is stored in before anything is divided by it.
#pragma once

#include "core/dtype.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lockstep {

struct Int8Rows {
  std::vector<std::int8_t> values;  // (rows, cols)
  std::vector<float> scales;        // (rows), positive, exact in the type they are stored in
};

// Whole rows of finite weights; rows follow from rows.size(). scale_dtype: fp32, bf16 or fp16.
Int8Rows quantize_rows(std::span<const float> rows, std::int64_t cols, DType scale_dtype);

// x rounded to fp32, bf16 or fp16 and back.
float rounded_to(float x, DType dtype);

}  // namespace lockstep
