// Reference encoders and decoders.
#include "core/weight_format.h"

#include "core/error.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace lockstep {
namespace {

constexpr std::int64_t kBlock = 32;
struct BlockQ8 {
  f16 scale;
  std::int8_t values[kBlock];
};
static_assert(sizeof(BlockQ8) == 34);

template <typename T>
void encode_elements(std::span<const float> values, std::byte* out) {
  for (const float value : values) {
    const T element = from_float<T>(value);
    std::memcpy(out, &element, sizeof(T));
    out += sizeof(T);
  }
}

template <typename T>
void decode_elements(std::span<float> out, const std::byte* bytes, std::int64_t first) {
  const std::byte* at = bytes + first * static_cast<std::int64_t>(sizeof(T));
  for (float& value : out) {
    T element;
    std::memcpy(&element, at, sizeof(T));
    value = to_float(element);
    at += sizeof(T);
  }
}

BlockQ8 encode_block(const float* values) {
  float largest = 0.0f;
  for (std::int64_t i = 0; i < kBlock; ++i) largest = std::max(largest, std::fabs(values[i]));
  const float scale = largest / 127.0f;
  float inverse = scale == 0.0f ? 0.0f : 1.0f / scale;
  if (!std::isfinite(inverse)) inverse = 0.0f;  // a subnormal scale, which is 0 in fp16
  BlockQ8 block;
  block.scale = to_f16(scale);
  for (std::int64_t i = 0; i < kBlock; ++i) {
    block.values[i] = static_cast<std::int8_t>(std::round(values[i] * inverse));
  }
  return block;
}

void encode_blocks(std::span<const float> values, std::byte* out) {
  for (std::size_t i = 0; i < values.size(); i += kBlock) {
    const BlockQ8 block = encode_block(values.data() + i);
    std::memcpy(out, &block, sizeof(block));
    out += sizeof(block);
  }
}

void decode_blocks(std::span<float> out, const std::byte* bytes, std::int64_t first) {
  std::size_t done = 0;
  while (done < out.size()) {
    const std::int64_t index = first + static_cast<std::int64_t>(done);
    BlockQ8 block;
    std::memcpy(&block, bytes + index / kBlock * static_cast<std::int64_t>(sizeof(block)),
                sizeof(block));
    const float scale = to_float(block.scale);
    const std::int64_t begin = index % kBlock;
    const auto left = static_cast<std::int64_t>(out.size() - done);
    const std::int64_t end = std::min(kBlock, begin + left);
    for (std::int64_t i = begin; i < end; ++i) {
      out[done++] = scale * static_cast<float>(block.values[i]);
    }
  }
}

void decode_int8_rows(std::span<float> out, const std::byte* bytes, const float* scales,
                      std::int64_t cols, std::int64_t first) {
  const auto* values = reinterpret_cast<const std::int8_t*>(bytes);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::int64_t index = first + static_cast<std::int64_t>(i);
    out[i] = scales[index / cols] * static_cast<float>(values[index]);
  }
}

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

BlockGeometry geometry_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32: return {.bytes = 4};
    case WeightFormat::kBF16:
    case WeightFormat::kF16: return {.bytes = 2};
    case WeightFormat::kInt8Rows: return {.bytes = 1, .row_scales = true};
    case WeightFormat::kQ8_0: break;
  }
  return {.values = kBlock, .bytes = sizeof(BlockQ8)};
}

std::string_view name_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32: return "fp32";
    case WeightFormat::kBF16: return "bf16";
    case WeightFormat::kF16: return "fp16";
    case WeightFormat::kInt8Rows: return "int8 rows";
    case WeightFormat::kQ8_0: break;
  }
  return "q8_0";
}

bool is_plain(WeightFormat format) {
  return format == WeightFormat::kF32 || format == WeightFormat::kBF16 ||
         format == WeightFormat::kF16;
}

WeightFormat plain_format(DType dtype) {
  switch (dtype) {
    case DType::kF32: return WeightFormat::kF32;
    case DType::kBF16: return WeightFormat::kBF16;
    case DType::kF16: return WeightFormat::kF16;
    default: CHECK(false, "weights of {}", name_of(dtype));
  }
}

DType element_type(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32: return DType::kF32;
    case WeightFormat::kBF16: return DType::kBF16;
    case WeightFormat::kF16: return DType::kF16;
    default: return DType::kU8;
  }
}

std::int64_t row_bytes(WeightFormat format, std::int64_t cols) {
  const BlockGeometry block = geometry_of(format);
  CHECK(cols % block.values == 0, "rows of {} values as {}", cols, name_of(format));
  return cols / block.values * block.bytes;
}

void encode_rows(WeightFormat format, std::span<const float> rows, std::int64_t cols,
                 std::span<std::byte> out, std::span<float> scales) {
  const auto count = static_cast<std::int64_t>(rows.size());
  CHECK(cols > 0 && count % cols == 0, "{} values in rows of {}", count, cols);
  CHECK(static_cast<std::int64_t>(out.size()) == count / cols * row_bytes(format, cols));
  switch (format) {
    case WeightFormat::kF32: encode_elements<float>(rows, out.data()); return;
    case WeightFormat::kBF16: encode_elements<bf16>(rows, out.data()); return;
    case WeightFormat::kF16: encode_elements<f16>(rows, out.data()); return;
    case WeightFormat::kQ8_0: encode_blocks(rows, out.data()); return;
    case WeightFormat::kInt8Rows: break;
  }
  const Int8Rows encoded = quantize_rows(rows, cols, DType::kF32);
  CHECK(scales.size() == encoded.scales.size());
  std::memcpy(out.data(), encoded.values.data(), encoded.values.size());
  std::copy(encoded.scales.begin(), encoded.scales.end(), scales.begin());
}

void decode_values(std::span<float> out, WeightFormat format, const std::byte* bytes,
                   const float* scales, std::int64_t cols, std::int64_t first) {
  switch (format) {
    case WeightFormat::kF32: decode_elements<float>(out, bytes, first); return;
    case WeightFormat::kBF16: decode_elements<bf16>(out, bytes, first); return;
    case WeightFormat::kF16: decode_elements<f16>(out, bytes, first); return;
    case WeightFormat::kQ8_0: decode_blocks(out, bytes, first); return;
    case WeightFormat::kInt8Rows: decode_int8_rows(out, bytes, scales, cols, first); return;
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

float rounded_to(float x, DType dtype) {
  switch (dtype) {
    case DType::kBF16: return to_float(to_bf16(x));
    case DType::kF16: return to_float(to_f16(x));
    default: return x;
  }
}

}  // namespace lockstep
