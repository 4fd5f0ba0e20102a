// Members that are missing, of another type or absurd are refused by file, key and value.
#include "formats/hf_config_sample.h"

namespace lockstep {
namespace {

using nlohmann::json;
using test::expect_refused;
using test::kGpt2;
using test::kLlama;
using test::qwen2;
using test::refusal;
using test::with;

TEST(JsonKeys, RefusesMissingKeysWrongTypesAndAbsurdSizes) {
  for (const json& base : {kGpt2, kLlama, qwen2()}) {
    for (const auto& [key, value] : base.items()) {
      const bool optional =
          key == "torch_dtype" || (key == "num_key_value_heads" && base["model_type"] == "llama");
      json without = base;
      without.erase(key);
      if (!optional) expect_refused(without, fmt::format("key '{}' is missing", key));
      if (!value.is_number()) continue;
      for (const json& wrong : {json(0), json(-1), json(1.5), json("3"), json(true), json::array(),
                                json(std::int64_t{1} << 40), json(~std::uint64_t{0})}) {
        expect_refused(with(base, key.c_str(), wrong), fmt::format("key '{}' = ", key));
      }
    }
  }
  for (const char* key : {"rms_norm_eps", "rope_theta", "initializer_range"}) {
    for (const json& wrong : {json(0.0), json(-1e-6), json("x"), json(1e200)}) {
      expect_refused(with(kLlama, key, wrong), fmt::format("key '{}' = ", key));
    }
  }
  for (const char* key : {"attention_bias", "mlp_bias", "tie_word_embeddings"}) {
    expect_refused(with(kLlama, key, 1), fmt::format("key '{}' = 1: must be true or false", key));
  }
  expect_refused(with(kLlama, "eos_token_id", "x"), "key 'eos_token_id'");
  expect_refused(with(kLlama, "eos_token_id", json::array({json::array()})), "key 'eos_token_id'");
  expect_refused(with(kLlama, "eos_token_id", ~std::uint64_t{0}), "key 'eos_token_id'");
  expect_refused(with(kLlama, "rope_scaling", 2.0), "key 'rope_scaling'");
  // What only the whole shape shows.
  expect_refused(with(kLlama, "num_key_value_heads", 3), "kv_heads = 3 must divide");
  expect_refused(with(kLlama, "hidden_size", 60), "must be even");
  expect_refused(with(kLlama, "head_dim", 512), "key 'head_dim' = 512");
  for (const char* text : {"", "{", "[]", "3", "null", "\xff\xfe", "{\"model_type\": \"gpt2\""}) {
    EXPECT_NE(refusal(text).find("not a JSON object"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace lockstep
