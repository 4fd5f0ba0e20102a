// The formats that a weight can have in memory or in a file: the geometry of their blocks, and the
// reference encoding that every kernel and every file writer agrees with.
#pragma once

#include "core/dtype.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace lockstep {

enum class WeightFormat : std::uint8_t {
  kF32,  // plain elements, as the two below
  kBF16,
  kF16,
  kInt8Rows,  // int8, and beside them one fp32 scale per row: w ~ q * scale
  kQ8_0,      // GGUF's: blocks of 32 int8 with one fp16 scale in front
};

struct BlockGeometry {
  std::int64_t values = 1;  // encoded together; a row is a whole number of blocks
  std::int64_t bytes = 0;   // of one block
  bool row_scales = false;  // each row has a scale that lies beside the data
};
BlockGeometry geometry_of(WeightFormat format);
std::string_view name_of(WeightFormat format);  // "fp32", "bf16", "fp16", "int8 rows", "q8_0"

// A format of elements that kernels compute with as they are, and back.
bool is_plain(WeightFormat format);
WeightFormat plain_format(DType dtype);   // CHECKs fp32, bf16 or fp16
DType element_type(WeightFormat format);  // of its data: a plain one's own, uint8 for the others

// Bytes of the data of a row of `cols` values. CHECKs that it is whole blocks.
std::int64_t row_bytes(WeightFormat format, std::int64_t cols);

// Encodes finite values, whole rows of `cols` of them. `scales` has one value per row where the
// format has scales beside the data, else it is empty.
//   q8_0: ggml's reference: d = max|x| / 127 in fp16, q = round(x / d), halves away from 0.
//   int8 rows: see quantize_rows().
void encode_rows(WeightFormat format, std::span<const float> rows, std::int64_t cols,
                 std::span<std::byte> out, std::span<float> scales);
// Values [first, first + out.size()) of encoded rows; `bytes` and `scales` are those of row 0.
void decode_values(std::span<float> out, WeightFormat format, const std::byte* bytes,
                   const float* scales, std::int64_t cols, std::int64_t first);

// Symmetric int8 with one scale per row, the output channel of a linear map. scale = max|w| /
// 127.5, so that the range -128 .. 127 is used on both sides, rounded to the type it is stored in
// before anything is divided by it.
struct Int8Rows {
  std::vector<std::int8_t> values;  // (rows, cols)
  std::vector<float> scales;        // (rows), positive, exact in the type they are stored in
};
// Whole rows of finite weights; rows follow from rows.size(). scale_dtype: fp32, bf16 or fp16.
Int8Rows quantize_rows(std::span<const float> rows, std::int64_t cols, DType scale_dtype);

// x rounded to fp32, bf16 or fp16 and back.
float rounded_to(float x, DType dtype);

}  // namespace lockstep
