// Writing: the configuration and the bytes. Only keys that every version of the package knows are
// written, because it refuses unknown ones.
#include "formats/compressed_tensors.h"

#include "core/error.h"
#include "core/weight_format.h"

#include <nlohmann/json.hpp>

#include <cstring>

namespace lockstep {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kPerWord = 4;

std::string base_of(const std::string& weight) {
  constexpr std::string_view kSuffix = ".weight";
  CHECK(weight.ends_with(kSuffix), "{} is no weight", weight);
  return weight.substr(0, weight.size() - kSuffix.size());
}

std::string safetensors_name(DType dtype) {
  if (dtype == DType::kBF16) return "BF16";
  return dtype == DType::kF16 ? "F16" : "F32";
}

Json arguments(const char* strategy, bool dynamic) {
  Json out;
  out["num_bits"] = 8;
  out["type"] = "int";
  out["symmetric"] = true;
  out["strategy"] = strategy;
  out["dynamic"] = dynamic;
  return out;
}

template <typename T>
void put(std::vector<std::byte>& out, T value) {
  const std::size_t at = out.size();
  out.resize(at + sizeof(T));
  std::memcpy(out.data() + at, &value, sizeof(T));
}

void put_scale(std::vector<std::byte>& out, float scale, DType dtype) {
  if (dtype == DType::kBF16) {
    put(out, to_bf16(scale).bits);
  } else if (dtype == DType::kF16) {
    put(out, to_f16(scale).bits);
  } else {
    put(out, scale);
  }
}

// Rows are padded with zero bytes to whole words.
std::vector<std::byte> packed(const std::vector<std::int8_t>& values, std::int64_t cols) {
  const auto width = static_cast<std::size_t>(cols);
  const auto padded = static_cast<std::size_t>((cols + kPerWord - 1) / kPerWord * kPerWord);
  std::vector<std::byte> out(values.size() / width * padded);
  for (std::size_t i = 0; i < values.size(); ++i) {
    out[i / width * padded + i % width] = static_cast<std::byte>(values[i] + 128);
  }
  return out;
}

}  // namespace

std::string compressed_tensors_config(Int8Scheme scheme) {
  const bool packs = scheme == Int8Scheme::kW8A16;
  Json group;
  group["targets"] = {"Linear"};
  group["weights"] = arguments("channel", /*dynamic=*/false);
  group["input_activations"] = packs ? Json() : arguments("token", /*dynamic=*/true);
  group["output_activations"] = nullptr;
  Json out;
  out["quant_method"] = "compressed-tensors";
  out["format"] = packs ? "pack-quantized" : "int-quantized";
  out["quantization_status"] = "compressed";
  out["config_groups"]["group_0"] = group;
  out["ignore"] = {"lm_head"};
  out["kv_cache_scheme"] = nullptr;
  return out.dump();
}

std::vector<Int8Tensor> int8_tensors(const std::string& weight, std::int64_t out, std::int64_t in,
                                     Int8Scheme scheme, DType scale_dtype) {
  const std::string base = base_of(weight);
  const Int8Tensor scale{{base + ".weight_scale", safetensors_name(scale_dtype), {out, 1}},
                         Int8Part::kScale};
  if (scheme == Int8Scheme::kW8A8) {
    return {{{weight, "I8", {out, in}}, Int8Part::kValues}, scale};
  }
  return {
      {{base + ".weight_packed", "I32", {out, (in + kPerWord - 1) / kPerWord}}, Int8Part::kValues},
      scale,
      {{base + ".weight_shape", "I64", {2}}, Int8Part::kShape}};
}

std::vector<std::byte> int8_bytes(Int8Part part, std::span<const float> rows, std::int64_t cols,
                                  Int8Scheme scheme, DType scale_dtype) {
  CHECK(part != Int8Part::kShape, "the shape is no row's");
  const Int8Rows quantized = quantize_rows(rows, cols, scale_dtype);
  if (part == Int8Part::kValues) {
    if (scheme == Int8Scheme::kW8A16) return packed(quantized.values, cols);
    const auto bytes = std::as_bytes(std::span(quantized.values));
    return {bytes.begin(), bytes.end()};
  }
  std::vector<std::byte> out;
  for (const float scale : quantized.scales) put_scale(out, scale, scale_dtype);
  return out;
}

}  // namespace lockstep
