// config.json: other arithmetic is refused by name, and no mutation of a file does more than end in
// an error.
#include "core/rng.h"
#include "formats/hf_config_sample.h"

namespace lockstep {
namespace {

using nlohmann::json;
using test::expect_refused;
using test::kGpt2;
using test::kLlama;
using test::parse;
using test::qwen2;
using test::refusal;
using test::shapes;
using test::with;

TEST(HfConfig, RefusesOtherArithmeticByName) {
  expect_refused(with(kGpt2, "activation_function", "gelu"),
                 "key 'activation_function' = \"gelu\"");
  expect_refused(with(kGpt2, "activation_function", "relu"), "only gelu_new, gelu_pytorch_tanh");
  expect_refused(with(kGpt2, "scale_attn_weights", false), "key 'scale_attn_weights'");
  expect_refused(with(kGpt2, "scale_attn_by_inverse_layer_idx", true), "inverse_layer_idx'");
  expect_refused(with(kGpt2, "add_cross_attention", true), "key 'add_cross_attention'");
  expect_refused(with(kLlama, "hidden_act", "gelu"), "key 'hidden_act'");
  expect_refused(with(qwen2(), "use_sliding_window", true), "key 'use_sliding_window'");
  expect_refused(with(kLlama, "partial_rotary_factor", 0.5), "key 'partial_rotary_factor'");
  expect_refused(with(kLlama, "rope_parameters", {{"partial_rotary_factor", 0.5}}),
                 "key 'rope_parameters.partial_rotary_factor'");
  expect_refused(with(kLlama, "torch_dtype", "int8"), "key 'torch_dtype'");
  expect_refused(with(kLlama, "model_type", "bert"), "only gpt2, llama and qwen2");
  expect_refused(with(kLlama, "quantization_config", "int8"), "key 'quantization_config'");
  EXPECT_EQ(parse(with(kGpt2, "reorder_and_upcast_attn", true)).model.layers, 2);
}

TEST(HfConfig, TokenIdsAndQuantization) {
  json config = with(with(kLlama, "bos_token_id", 1), "eos_token_id", json::array({5, 6, 7}));
  config["quantization_config"] = {{"quant_method", "compressed-tensors"}};
  const HfConfig parsed = parse(config);
  EXPECT_EQ(parsed.bos_token_id, 1);
  EXPECT_EQ(parsed.eos_token_ids, (std::vector<std::int32_t>{5, 6, 7}));
  EXPECT_EQ(json::parse(parsed.quantization), config["quantization_config"]);
  EXPECT_TRUE(parse(with(kLlama, "eos_token_id", json::array())).eos_token_ids.empty());
  EXPECT_TRUE(parse(with(kGpt2, "eos_token_id", 50256)).eos_token_ids.empty());
}

// Bytes of valid files changed, cut or repeated, and values swapped for hostile ones.
TEST(HfConfig, MutationsEndInAnErrorOrAModelWithinTheLimits) {
  const std::vector<HfConfig> list = shapes();
  const std::vector<json> hostile = {json(),
                                     json(-1),
                                     json(1e308),
                                     json("\xc3\xa9"),
                                     json(0),
                                     json(3),
                                     json::array(),
                                     json::object(),
                                     json(true),
                                     json(std::int64_t{1} << 62),
                                     json(~std::uint64_t{0})};
  int accepted = 0, refused = 0;
  for (std::uint64_t round = 0; round < 2000; ++round) {
    std::uint64_t draw = 0;
    const auto below = [&](std::size_t n) {
      return philox(key_from(round, "mutation"), draw++)[0] % n;
    };
    std::string text = hf_config_text(list[below(list.size())]);
    if (below(2) == 0) {
      json config = json::parse(text);
      auto key = config.begin();
      std::advance(key, static_cast<std::ptrdiff_t>(below(config.size())));
      *key = hostile[below(hostile.size())];
      text = config.dump();
    } else {
      for (std::size_t i = 0; i <= below(4); ++i) {
        text[below(text.size())] = static_cast<char>(below(256));
      }
      if (below(4) == 0) text.resize(below(text.size()));
    }
    try {
      const ModelConfig m = parse_hf_config(text, "dir/config.json").model;
      EXPECT_GT(parameter_count(m), 0);
      EXPECT_LT(parameter_count(m), std::int64_t{1} << 60);
      ++accepted;
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::kData) << error.what();
      ++refused;
    }
  }
  EXPECT_GT(accepted, 100);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace lockstep
