// A small GGUF file of every type of key and tensor, as the tests of its reader and writer use it.
#pragma once

#include "formats/gguf.h"
#include "io/fixture.h"

#include <random>
#include <string>
#include <vector>

namespace lockstep::testing {

inline std::vector<float> values_of(std::int64_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) {
    value = static_cast<float>(static_cast<double>(random()) / 4294967296.0 * 4.0 - 2.0);
  }
  return values;
}

inline const GgufMetadata& sample_metadata() {
  static const GgufMetadata metadata = {
      {"general.architecture", std::string("llama")},
      {"a.u8", std::uint8_t{200}},
      {"a.i8", std::int8_t{-3}},
      {"a.u16", std::uint16_t{60000}},
      {"a.i16", std::int16_t{-300}},
      {"a.u32", std::uint32_t{4000000000u}},
      {"a.i32", std::int32_t{-70000}},
      {"a.u64", std::uint64_t{1} << 63},
      {"a.i64", -(std::int64_t{1} << 40)},
      {"a.float", 0.1f},
      {"a.double", 0.1},
      {"a.yes", true},
      {"a.no", false},
      {"a.texts", std::vector<std::string>{"", "one", "\xc4\xa0two"}},
      {"a.ints", std::vector<std::int32_t>{1, -2, 3}},
      {"a.unsigned", std::vector<std::uint32_t>{7}},
      {"a.floats", std::vector<float>{0.5f, -1.0f}},
      {"a.nothing", std::vector<std::int32_t>{}}};
  return metadata;
}

inline const std::vector<GgufTensor>& sample_tensors() {
  static const std::vector<GgufTensor> tensors = {{"norm", {5}, GgufType::kF32},
                                                  {"embed", {7, 3}, GgufType::kF16},
                                                  {"b.first", {3, 5}, GgufType::kBF16},
                                                  {"a.last", {4, 64}, GgufType::kQ8_0},
                                                  {"cube", {2, 3, 32}, GgufType::kQ8_0}};
  return tensors;
}

inline std::string write_sample(const std::string& path) {
  GgufWriter writer(path, sample_metadata(), sample_tensors());
  unsigned seed = 0;
  for (const GgufTensor& tensor : sample_tensors()) {
    writer.append(tensor.name, values_of(tensor.shape.count(), seed++));
  }
  writer.finish();
  return slurp(path);
}

}  // namespace lockstep::testing
