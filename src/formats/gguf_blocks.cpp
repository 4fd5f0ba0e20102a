// The element types of GGUF tensors: sizes, and values to bytes and back. Q8_0 follows ggml's
// reference: a scale d = max|x| / 127 in fp16 per 32 values, q = round(x / d), halves away from 0.
#include "core/error.h"
#include "formats/gguf.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string_view>

namespace lockstep {
namespace {

constexpr std::int64_t kBlock = 32;
struct BlockQ8 {
  f16 scale;
  std::int8_t values[kBlock];
};
static_assert(sizeof(BlockQ8) == 34);

// ggml's types: how many values form a block, and its bytes. Those that it has dropped are missing.
struct TypeInfo {
  std::uint32_t code;
  std::string_view name;
  std::int64_t values, bytes;
};
constexpr std::array<TypeInfo, 34> kTypes = {
    {{0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},
     {3, "Q4_1", 32, 20},      {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},
     {8, "Q8_0", 32, 34},      {9, "Q8_1", 32, 40},      {10, "Q2_K", 256, 84},
     {11, "Q3_K", 256, 110},   {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},
     {14, "Q6_K", 256, 210},   {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66},
     {17, "IQ2_XS", 256, 74},  {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},
     {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},  {22, "IQ2_S", 256, 82},
     {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},         {25, "I16", 1, 2},
     {26, "I32", 1, 4},        {27, "I64", 1, 8},        {28, "F64", 1, 8},
     {29, "IQ1_M", 256, 56},   {30, "BF16", 1, 2},       {34, "TQ1_0", 256, 54},
     {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},    {40, "NVFP4", 64, 36},
     {41, "Q1_0", 128, 18}}};

const TypeInfo* find_type(GgufType type) {
  for (const TypeInfo& info : kTypes) {
    if (info.code == static_cast<std::uint32_t>(type)) return &info;
  }
  return nullptr;
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

bool is_readable(GgufType type) {
  switch (type) {
    case GgufType::kF32:
    case GgufType::kF16:
    case GgufType::kQ8_0:
    case GgufType::kBF16: return true;
  }
  return false;
}

std::string name_of(GgufType type) {
  const TypeInfo* info = find_type(type);
  return info == nullptr ? fmt::format("type {}", static_cast<std::uint32_t>(type))
                         : std::string(info->name);
}

std::int64_t gguf_block_values(GgufType type) {
  const TypeInfo* info = find_type(type);
  return info == nullptr ? 1 : info->values;
}

std::int64_t gguf_row_bytes(GgufType type, std::int64_t cols) {
  const TypeInfo* info = find_type(type);
  if (info == nullptr) return 0;
  if (cols % info->values != 0) {
    fail(ExitCode::kData, "rows of {} values cannot be {}: it needs multiples of {}", cols,
         info->name, info->values);
  }
  return cols / info->values * info->bytes;
}

void gguf_encode(GgufType type, std::span<const float> values, std::span<std::byte> out) {
  const auto count = static_cast<std::int64_t>(values.size());
  CHECK(is_readable(type) && count % gguf_block_values(type) == 0, "{} values as {}", count,
        name_of(type));
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
  CHECK(is_readable(type), "{}", name_of(type));
  switch (type) {
    case GgufType::kF32: decode_elements<float>(out, bytes, first); return;
    case GgufType::kF16: decode_elements<f16>(out, bytes, first); return;
    case GgufType::kBF16: decode_elements<bf16>(out, bytes, first); return;
    case GgufType::kQ8_0: decode_blocks(out, bytes, first); return;
  }
}

}  // namespace lockstep
