// The one table of GGUF's element types: sizes, and how those that are read are decoded. The
// encoding of those that are written is core/weight_format.h's.
#include "core/error.h"
#include "formats/gguf.h"
#include "formats/gguf_decode.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace lockstep {
namespace {

template <WeightFormat format>
void decode_weights(float* out, const std::byte* bytes, std::int64_t blocks) {
  const std::int64_t count = blocks * geometry_of(format).values;
  decode_values({out, static_cast<std::size_t>(count)}, format, bytes, nullptr, /*cols=*/1, 0);
}

// ggml's types: how many values form a block, its bytes, and what decodes it where it is read.
// Those that it has dropped are missing.
struct TypeInfo {
  std::uint32_t code;
  std::string_view name;
  std::int64_t values, bytes;
  GgufDecode decode = nullptr;
};
constexpr std::array<TypeInfo, 34> kTypes = {
    {{0, "F32", 1, 4, decode_weights<WeightFormat::kF32>},
     {1, "F16", 1, 2, decode_weights<WeightFormat::kF16>},
     {2, "Q4_0", 32, 18, decode_q4_0},
     {3, "Q4_1", 32, 20, decode_q4_1},
     {6, "Q5_0", 32, 22, decode_q5_0},
     {7, "Q5_1", 32, 24, decode_q5_1},
     {8, "Q8_0", 32, 34, decode_weights<WeightFormat::kQ8_0>},
     {9, "Q8_1", 32, 40},
     {10, "Q2_K", 256, 84, decode_q2_k},
     {11, "Q3_K", 256, 110, decode_q3_k},
     {12, "Q4_K", 256, 144, decode_q4_k},
     {13, "Q5_K", 256, 176, decode_q5_k},
     {14, "Q6_K", 256, 210, decode_q6_k},
     {15, "Q8_K", 256, 292},
     {16, "IQ2_XXS", 256, 66},
     {17, "IQ2_XS", 256, 74},
     {18, "IQ3_XXS", 256, 98},
     {19, "IQ1_S", 256, 50},
     {20, "IQ4_NL", 32, 18, decode_iq4_nl},
     {21, "IQ3_S", 256, 110},
     {22, "IQ2_S", 256, 82},
     {23, "IQ4_XS", 256, 136, decode_iq4_xs},
     {24, "I8", 1, 1},
     {25, "I16", 1, 2},
     {26, "I32", 1, 4},
     {27, "I64", 1, 8},
     {28, "F64", 1, 8},
     {29, "IQ1_M", 256, 56},
     {30, "BF16", 1, 2, decode_weights<WeightFormat::kBF16>},
     {34, "TQ1_0", 256, 54},
     {35, "TQ2_0", 256, 66},
     {39, "MXFP4", 32, 17},
     {40, "NVFP4", 64, 36},
     {41, "Q1_0", 128, 18}}};
constexpr std::int64_t kMostValues = 256;
static_assert(std::ranges::all_of(kTypes,
                                  [](const TypeInfo& info) { return info.values <= kMostValues; }));

const TypeInfo* find_type(GgufType type) {
  for (const TypeInfo& info : kTypes) {
    if (info.code == static_cast<std::uint32_t>(type)) return &info;
  }
  return nullptr;
}

}  // namespace

bool is_readable(GgufType type) {
  const TypeInfo* info = find_type(type);
  return info != nullptr && info->decode != nullptr;
}

std::string gguf_readable_types() {
  std::string names;
  for (const TypeInfo& info : kTypes) {
    if (info.decode == nullptr) continue;
    if (!names.empty()) names += ", ";
    names += info.name;
  }
  return names;
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

WeightFormat format_of(GgufType type) {
  switch (type) {
    case GgufType::kF32: return WeightFormat::kF32;
    case GgufType::kF16: return WeightFormat::kF16;
    case GgufType::kBF16: return WeightFormat::kBF16;
    case GgufType::kQ8_0: return WeightFormat::kQ8_0;
    default: CHECK(false, "{} is not written", name_of(type));
  }
}

GgufType gguf_type_of(WeightFormat format) {
  for (const GgufType type : {GgufType::kF32, GgufType::kF16, GgufType::kBF16, GgufType::kQ8_0}) {
    if (format_of(type) == format) return type;
  }
  CHECK(false, "a GGUF file does not hold {}", name_of(format));
}

void gguf_encode(GgufType type, std::span<const float> values, std::span<std::byte> out) {
  if (values.empty()) return;
  encode_rows(format_of(type), values, static_cast<std::int64_t>(values.size()), out, {});
}

void gguf_decode(std::span<float> out, GgufType type, const std::byte* bytes, std::int64_t first) {
  const TypeInfo* info = find_type(type);
  CHECK(info != nullptr && info->decode != nullptr, "{} is not read", name_of(type));
  bytes += first / info->values * info->bytes;
  std::int64_t skipped = first % info->values;
  while (!out.empty()) {
    const std::int64_t whole = std::ssize(out) / info->values;
    std::int64_t count = whole * info->values;
    if (skipped == 0 && whole > 0) {
      info->decode(out.data(), bytes, whole);
    } else {  // begins or ends within a block
      std::array<float, kMostValues> block;
      info->decode(block.data(), bytes, 1);
      count = std::min(info->values - skipped, std::ssize(out));
      std::copy_n(block.data() + skipped, count, out.data());
    }
    bytes += (skipped + count) / info->values * info->bytes;
    skipped = 0;
    out = out.subspan(static_cast<std::size_t>(count));
  }
}

}  // namespace lockstep
