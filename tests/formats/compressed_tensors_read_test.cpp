// Reading compressed tensors: what was written comes back; other schemes and files with one thing
// wrong are refused by key and tensor.
#include "formats/compressed_tensors_fixture.h"

namespace lockstep {
namespace {

using nlohmann::json;
using test::bytes_of;
using test::CompressedTensors;
using test::Files;
using test::put;

class CompressedTensorsRead : public CompressedTensors {};

TEST_F(CompressedTensorsRead, ReadsBackWhatItWrote) {
  for (const Int8Scheme scheme : {Int8Scheme::kW8A16, Int8Scheme::kW8A8}) {
    for (const DType dtype : test::kStorageTypes) {
      bool int8_activations = false;
      const auto source =
          open(good(scheme, dtype), compressed_tensors_config(scheme), int8_activations);
      EXPECT_EQ(int8_activations, scheme == Int8Scheme::kW8A8);
      ASSERT_EQ(source->tensors().size(), 2u);
      ASSERT_NE(source->find("a.q_proj.weight"), nullptr);
      EXPECT_EQ(source->find("a.q_proj.weight")->shape, (Shape{kRows, kCols}));
      const Int8Rows expected = quantize_rows(weight_, kCols, dtype);
      for (std::int64_t first = 0; first < kRows; ++first) {
        std::vector<float> rows(static_cast<std::size_t>((kRows - first) * kCols));
        source->read("a.q_proj.weight", first, rows);
        for (std::size_t i = 0; i < rows.size(); ++i) {
          const std::size_t at = static_cast<std::size_t>(first * kCols) + i;
          EXPECT_EQ(rows[i], static_cast<float>(expected.values[at]) * expected.scales[at / kCols]);
        }
      }
      std::vector<float> norm(2);
      source->read("norm.weight", 0, norm);
      EXPECT_EQ(norm, (std::vector<float>{1.0f, -2.0f}));
    }
  }
}

TEST_F(CompressedTensorsRead, RefusesOtherSchemesByKey) {
  const Files files = good(Int8Scheme::kW8A8);
  const std::string weights = "/config_groups/group_0/weights/";
  const std::string inputs = "/config_groups/group_0/input_activations/";
  const auto refused = [&](const std::string& pointer, const json& value,
                           const std::string& message) {
    expect_refused(files, changed(Int8Scheme::kW8A8, pointer, value), message);
  };
  const std::string key = "config.json: quantization_config.";
  refused("/quant_method", "gptq", key + "quant_method is \"gptq\", only \"compressed-tensors\"");
  refused("/format", "float-quantized", key + "format is \"float-quantized\"");
  refused("/format", nullptr, key + "format is null");
  refused("/kv_cache_scheme", {{"num_bits", 8}}, key + "kv_cache_scheme");
  refused("/config_groups", json::object(), key + "config_groups");
  refused("/config_groups/group_1", json::object(), key + "config_groups");
  refused("/config_groups/group_0", json::array(), key + "config_groups");
  refused("/config_groups/group_0/weights", nullptr, "group_0.weights is null");
  refused(weights + "num_bits", 4, "group_0.weights.num_bits is 4, only 8 is read; take");
  refused(weights + "type", "float", "weights.type");
  refused(weights + "symmetric", false, "weights.symmetric");
  refused(weights + "strategy", "group", "weights.strategy");
  refused(weights + "group_size", 128, "weights.group_size is 128");
  refused(weights + "dynamic", true, "weights.dynamic");
  refused(weights + "actorder", "group", "weights.actorder");
  refused(inputs + "dynamic", false, "input_activations.dynamic");
  refused(inputs + "strategy", "tensor", "input_activations.strategy");
  refused(inputs + "num_bits", "8", "input_activations.num_bits");
  refused("/config_groups/group_0/input_activations", 7, "group_0.input_activations is 7");
  refused("/config_groups/group_0/output_activations", {{"num_bits", 8}}, "output_activations");
  expect_refused(files, "nonsense", "quantization_config.* is \"nonsense\"");
  expect_refused(files, "[]", "quantization_config.*");
}

// Each is the good file with one thing wrong.
TEST_F(CompressedTensorsRead, RefusesTensorsThatDoNotBelongTogether) {
  const auto refused = [&](Int8Scheme scheme, const std::function<void(Files&)>& damage,
                           const std::string& message) {
    Files files = good(scheme);
    damage(files);
    expect_refused(files, compressed_tensors_config(scheme), message);
  };
  const auto without = [](const std::string& name) {
    return [name](Files& files) { files.erase("a.q_proj." + name); };
  };
  const auto shaped = [](std::int64_t rows, std::int64_t cols) {
    return [rows, cols](Files& files) {
      files["a.q_proj.weight_shape"].bytes = bytes_of(std::vector<std::int64_t>{rows, cols});
    };
  };
  constexpr Int8Scheme kPacked = Int8Scheme::kW8A16, kPlain = Int8Scheme::kW8A8;
  for (const Int8Scheme scheme : {kPacked, kPlain}) {
    refused(scheme, without("weight_scale"), "tensor a.q_proj.weight_scale is missing beside");
  }
  refused(kPacked, without("weight_shape"), "tensor a.q_proj.weight_shape is missing beside");
  refused(kPacked, without("weight_packed"), "belongs to no quantized weight");
  refused(kPlain, without("weight"), "tensor a.q_proj.weight_scale belongs to no quantized weight");
  // Eight columns fit two words, nine and four do not need or do not fit them.
  refused(kPacked, shaped(kRows, 9), "says [3, 9], which a.q_proj.weight_packed [3, 2] cannot");
  refused(kPacked, shaped(kRows, 4), "says [3, 4]");
  refused(kPacked, shaped(kRows + 1, kCols), "says [4, 6]");
  refused(kPacked, shaped(-1, -1), "says [-1, -1]");
  refused(kPacked, shaped(kRows, std::int64_t{1} << 62), "cannot hold");
  const auto replaced = [](const std::string& name, const std::string& dtype,
                           const std::vector<std::int64_t>& shape, std::size_t bytes) {
    return [=](Files& files) {
      put(files, {"a.q_proj." + name, dtype, shape}, std::vector<std::byte>(bytes));
    };
  };
  refused(kPacked, replaced("weight_shape", "F32", {2}, 8), "is F32 [2], must be I64 [2]");
  refused(kPacked, replaced("weight_shape", "I64", {3}, 24), "is I64 [3], must be I64 [2]");
  refused(kPacked, replaced("weight_packed", "F32", {3, 2}, 24), "must be I32 [out, in]");
  refused(kPacked, replaced("weight_packed", "I32", {6}, 24), "must be I32 [out, in]");
  refused(kPlain, replaced("weight", "I8", {0, 6}, 0), "must be I8 [out, in]");
  refused(kPlain, replaced("weight_scale", "F32", {3}, 12), "must be a float type and [3, 1]");
  refused(kPlain, replaced("weight_scale", "F32", {2, 1}, 8), "must be a float type and [3, 1]");
  refused(kPlain, replaced("weight_scale", "I32", {3, 1}, 12), "must be a float type");
  refused(kPlain, replaced("weight_zero_point", "I8", {3, 1}, 3), "belongs to no quantized");
  refused(kPacked, replaced("weight_g_idx", "I32", {6}, 24), "belongs to no quantized weight");
  refused(
      kPlain,
      [](Files& files) {
        put(files, {"b.k_proj.weight", "F32", {1, 1}}, std::vector<std::byte>(4));
      },
      "tensor b.k_proj.weight is not quantized");
}

TEST_F(CompressedTensorsRead, RefusesScalesThatAreNotFinite) {
  Files files = good(Int8Scheme::kW8A8);
  files["a.q_proj.weight_scale"].bytes =
      bytes_of(std::vector<float>{1.0f, std::numeric_limits<float>::quiet_NaN(), 1.0f});
  bool ignored = false;
  const auto source = open(files, compressed_tensors_config(Int8Scheme::kW8A8), ignored);
  std::vector<float> row(kCols);
  source->read("a.q_proj.weight", 0, row);
  try {
    source->read("a.q_proj.weight", 1, row);
    ADD_FAILURE() << "not refused";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("a.q_proj.weight_scale is not finite in row 1"),
              std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace lockstep
