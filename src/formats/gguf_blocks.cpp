// The element types of GGUF tensors: sizes, and values to bytes and back. Q8_0 follows ggml's
// reference: a scale d = max|x| / 127 in fp16 per 32 values, q = round(x / d), halves away from 0.
#include "core/error.h"
#include "formats/gguf.h"

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

std::int64_t block_bytes(GgufType type) {
  switch (type) {
    case GgufType::kF32: return 4;
    case GgufType::kF16:
    case GgufType::kBF16: return 2;
    case GgufType::kQ8_0: return sizeof(BlockQ8);
  }
  return 0;
}

template <typename T>
void encode_elements(std::span<const float> values, std::byte* out) {
  for (const float value : values) {
    const T element = from_float<T>(value);
    std::memcpy(out, &element, sizeof(T));
    out += sizeof(T);
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

}  // namespace

std::string_view name_of(GgufType type) {
  switch (type) {
    case GgufType::kF32: return "F32";
    case GgufType::kF16: return "F16";
    case GgufType::kQ8_0: return "Q8_0";
    case GgufType::kBF16: return "BF16";
  }
  return "unknown";
}

std::int64_t gguf_block_values(GgufType type) { return type == GgufType::kQ8_0 ? kBlock : 1; }

std::int64_t gguf_row_bytes(GgufType type, std::int64_t cols) {
  const std::int64_t values = gguf_block_values(type);
  if (cols % values != 0) {
    fail(ExitCode::kData, "rows of {} values cannot be {}: it needs multiples of {}", cols,
         name_of(type), values);
  }
  return cols / values * block_bytes(type);
}

void gguf_encode(GgufType type, std::span<const float> values, std::span<std::byte> out) {
  const auto count = static_cast<std::int64_t>(values.size());
  CHECK(count % gguf_block_values(type) == 0, "{} values as {}", count, name_of(type));
  CHECK(static_cast<std::int64_t>(out.size()) == gguf_row_bytes(type, count));
  switch (type) {
    case GgufType::kF32: encode_elements<float>(values, out.data()); return;
    case GgufType::kF16: encode_elements<f16>(values, out.data()); return;
    case GgufType::kBF16: encode_elements<bf16>(values, out.data()); return;
    case GgufType::kQ8_0: break;
  }
  for (std::int64_t i = 0; i < count / kBlock; ++i) {
    const BlockQ8 block = encode_block(values.data() + i * kBlock);
    std::memcpy(out.data() + i * static_cast<std::int64_t>(sizeof(block)), &block, sizeof(block));
  }
}

void gguf_decode(std::span<float> out, GgufType type, const std::byte* bytes, std::int64_t first) {
  switch (type) {
    case GgufType::kF32: decode_elements<float>(out, bytes, first); return;
    case GgufType::kF16: decode_elements<f16>(out, bytes, first); return;
    case GgufType::kBF16: decode_elements<bf16>(out, bytes, first); return;
    case GgufType::kQ8_0: decode_blocks(out, bytes, first); return;
  }
}

}  // namespace lockstep
