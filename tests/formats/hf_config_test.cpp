// config.json: what each key means, what is refused by name, the round trip through our own writer,
// and that no mutation of a file does more than end in an error.
#include "formats/hf_config.h"

#include "core/error.h"
#include "core/rng.h"
#include "nn/transformer_family.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace lockstep {
namespace {

using nlohmann::json;

const json kGpt2 = {{"model_type", "gpt2"}, {"vocab_size", 97}, {"n_positions", 64},
                    {"n_embd", 48},         {"n_layer", 2},     {"n_head", 3}};
const json kLlama = {{"model_type", "llama"},    {"vocab_size", 128},
                     {"hidden_size", 64},        {"intermediate_size", 176},
                     {"num_hidden_layers", 3},   {"num_attention_heads", 4},
                     {"num_key_value_heads", 2}, {"max_position_embeddings", 256},
                     {"torch_dtype", "bfloat16"}};

json with(json base, const char* key, json value) {
  base[key] = std::move(value);
  return base;
}

json qwen2() { return with(kLlama, "model_type", "qwen2"); }

HfConfig parse(const json& config) { return parse_hf_config(config.dump(), "dir/config.json"); }

std::string refusal(const std::string& text) {
  try {
    parse_hf_config(text, "dir/config.json");
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
    EXPECT_EQ(std::string(error.what()).find("dir/config.json: "), 0u) << error.what();
    return error.what();
  }
  return "";
}

void expect_refused(const json& config, const std::string& part) {
  const std::string message = refusal(config.dump());
  EXPECT_NE(message.find(part), std::string::npos) << config.dump() << "\n" << message;
}

TEST(HfConfig, Gpt2WithItsDefaults) {
  const HfConfig config = parse(kGpt2);
  const ModelConfig& m = config.model;
  EXPECT_EQ(m.architecture, "gpt2");
  EXPECT_EQ(m.layers, 2);
  EXPECT_EQ(m.heads, 3);
  EXPECT_EQ(m.hidden, 48);
  EXPECT_EQ(m.ffn, 192);
  EXPECT_EQ(m.vocab, 97);
  EXPECT_EQ(m.seq_len, 64);
  EXPECT_EQ(m.norm_eps, 1e-5);
  EXPECT_TRUE(transformer_spec(m).tied);
  EXPECT_TRUE(transformer_spec(m).qkv_bias && transformer_spec(m).out_bias &&
              transformer_spec(m).mlp_bias);
  EXPECT_EQ(config.dtype, "");
  EXPECT_EQ(config.eos_token_id, -1);
  EXPECT_EQ(parse(with(kGpt2, "n_inner", 104)).model.ffn, 104);
  EXPECT_EQ(parse(with(kGpt2, "n_inner", nullptr)).model.ffn, 192);
  EXPECT_FALSE(transformer_spec(parse(with(kGpt2, "tie_word_embeddings", false)).model).tied);
  json old = with(kGpt2, "n_ctx", 32);
  old.erase("n_positions");
  EXPECT_EQ(parse(old).model.seq_len, 32);
}

TEST(HfConfig, LlamaAndQwen2WithTransformersDefaults) {
  const ModelConfig llama = parse(kLlama).model;
  EXPECT_EQ(llama.kv_heads, 2);
  EXPECT_EQ(llama.head_dim, 16);
  EXPECT_EQ(llama.norm_eps, 1e-6);
  EXPECT_EQ(llama.rope_theta, 10000.0);
  EXPECT_FALSE(transformer_spec(llama).tied);
  EXPECT_FALSE(transformer_spec(llama).qkv_bias || transformer_spec(llama).out_bias ||
               transformer_spec(llama).mlp_bias);
  EXPECT_EQ(parse(kLlama).dtype, "bf16");
  json no_groups = kLlama;
  no_groups.erase("num_key_value_heads");
  EXPECT_EQ(parse(no_groups).model.kv_heads, 4);
  const ModelConfig biased =
      parse(with(with(kLlama, "attention_bias", true), "mlp_bias", true)).model;
  EXPECT_TRUE(transformer_spec(biased).qkv_bias && transformer_spec(biased).out_bias &&
              transformer_spec(biased).mlp_bias);
  const ModelConfig qwen = parse(with(qwen2(), "sliding_window", 4096)).model;
  EXPECT_TRUE(transformer_spec(qwen).qkv_bias);
  EXPECT_FALSE(transformer_spec(qwen).out_bias || transformer_spec(qwen).mlp_bias ||
               transformer_spec(qwen).tied);
  EXPECT_EQ(qwen.rope_theta, 10000.0);
  EXPECT_EQ(parse(with(kLlama, "head_dim", 32)).model.head_dim, 32);
}

TEST(HfConfig, RopeInOldAndNewSpelling) {
  const json scaling = {{"rope_type", "llama3"},
                        {"factor", 32.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 8192}};
  EXPECT_EQ(parse(with(kLlama, "rope_scaling", scaling)).model.rope_scaling, "llama3:32,1,4,8192");
  EXPECT_EQ(
      parse(with(kLlama, "rope_scaling", {{"type", "linear"}, {"factor", 2.5}})).model.rope_scaling,
      "linear:2.5");
  json parameters = with(scaling, "rope_theta", 500000.0);
  const ModelConfig v5 = parse(with(kLlama, "rope_parameters", parameters)).model;
  EXPECT_EQ(v5.rope_scaling, "llama3:32,1,4,8192");
  EXPECT_EQ(v5.rope_theta, 500000.0);
  const json plain = {{"rope_type", "default"}, {"rope_theta", 7.0}};
  EXPECT_EQ(parse(with(kLlama, "rope_parameters", plain)).model.rope_theta, 7.0);
  expect_refused(with(with(kLlama, "rope_parameters", plain), "rope_theta", 8.0),
                 "key 'rope_parameters.rope_theta' = 7.0: contradicts rope_theta = 8");
  expect_refused(with(with(kLlama, "rope_parameters", plain), "rope_scaling", scaling),
                 "key 'rope_parameters.rope_type'");
  expect_refused(with(kLlama, "rope_parameters", {{"full_attention", plain}}),
                 "key 'rope_parameters.full_attention'");
  for (const char* type : {"yarn", "dynamic", "longrope"}) {
    expect_refused(with(kLlama, "rope_scaling", {{"type", type}, {"factor", 2.0}}),
                   "only default, linear, llama3");
  }
  for (const char* key : {"factor", "low_freq_factor", "original_max_position_embeddings"}) {
    json broken = scaling;
    broken.erase(key);
    expect_refused(with(kLlama, "rope_scaling", broken),
                   fmt::format("key 'rope_scaling.{}' is missing", key));
  }
  expect_refused(with(kLlama, "rope_scaling", with(scaling, "factor", 0.5)), "at least 1");
  expect_refused(with(kLlama, "rope_scaling", with(scaling, "low_freq_factor", 4.0)), "below");
}

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

TEST(HfConfig, RefusesMissingKeysWrongTypesAndAbsurdSizes) {
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
  expect_refused(with(kLlama, "hidden_size", 60), "multiple of 8");
  expect_refused(with(kLlama, "head_dim", 256), "key 'head_dim' = 256");
  for (const char* text : {"", "{", "[]", "3", "null", "\xff\xfe", "{\"model_type\": \"gpt2\""}) {
    EXPECT_NE(refusal(text).find("not a JSON object"), std::string::npos) << text;
  }
}

TEST(HfConfig, TokenIdsAndQuantization) {
  json config = with(with(kLlama, "bos_token_id", 1), "eos_token_id", json::array({5, 6, 7}));
  config["quantization_config"] = {{"quant_method", "compressed-tensors"}};
  const HfConfig parsed = parse(config);
  EXPECT_EQ(parsed.bos_token_id, 1);
  EXPECT_EQ(parsed.eos_token_id, 5);
  EXPECT_EQ(json::parse(parsed.quantization), config["quantization_config"]);
  EXPECT_EQ(parse(with(kLlama, "eos_token_id", json::array())).eos_token_id, -1);
  EXPECT_EQ(parse(with(kGpt2, "eos_token_id", 50256)).eos_token_id, -1);
}

std::vector<HfConfig> shapes() {
  std::vector<HfConfig> list = {parse(kGpt2), parse(kLlama), parse(qwen2())};
  list[0].bos_token_id = list[0].eos_token_id = 96;
  list[0].model.norm_eps = 3e-6;
  list[1].model.rope_scaling = "llama3:8,1.25,4.5,32";
  list[1].model.attention_bias = list[1].model.tie_embeddings = "true";
  list[1].dtype = "fp16";
  list[2].model.rope_scaling = "linear:2.5";
  list[2].model.rope_theta = 1e6;
  list[2].quantization = R"({"quant_method":"compressed-tensors"})";
  return list;
}

TEST(HfConfig, WhatIsWrittenReadsBackTheSame) {
  for (const HfConfig& config : shapes()) {
    const HfConfig back = parse_hf_config(hf_config_text(config), "dir/config.json");
    const ModelConfig &a = config.model, &b = back.model;
    const auto sizes = [](const ModelConfig& m) {
      return std::vector<std::int64_t>{m.layers, m.heads, m.kv_heads, m.head_dim,
                                       m.hidden, m.ffn,   m.vocab,    m.seq_len};
    };
    EXPECT_EQ(a.architecture, b.architecture);
    EXPECT_EQ(sizes(a), sizes(b));
    EXPECT_EQ(a.norm_eps, b.norm_eps);
    EXPECT_EQ(a.rope_theta, b.rope_theta);
    EXPECT_EQ(a.rope_scaling, b.rope_scaling);
    EXPECT_EQ(a.init_std, b.init_std);
    EXPECT_EQ(transformer_spec(a).qkv_bias, transformer_spec(b).qkv_bias);
    EXPECT_EQ(transformer_spec(a).out_bias, transformer_spec(b).out_bias);
    EXPECT_EQ(transformer_spec(a).mlp_bias, transformer_spec(b).mlp_bias);
    EXPECT_EQ(transformer_spec(a).tied, transformer_spec(b).tied);
    EXPECT_EQ(config.dtype.empty() ? "fp32" : config.dtype, back.dtype);
    EXPECT_EQ(config.bos_token_id, back.bos_token_id);
    EXPECT_EQ(config.eos_token_id, back.eos_token_id);
    EXPECT_EQ(config.quantization, back.quantization);
  }
}

TEST(HfConfig, WritesTheTypesThatReadersInsistOn) {
  const std::vector<HfConfig> list = shapes();
  const json gpt2 = json::parse(hf_config_text(list[0]));
  EXPECT_EQ(gpt2["architectures"], json::array({"GPT2LMHeadModel"}));
  EXPECT_EQ(gpt2["n_ctx"], 64);
  EXPECT_EQ(gpt2["n_inner"], 192);
  EXPECT_TRUE(gpt2["layer_norm_epsilon"].is_number_float());
  EXPECT_EQ(gpt2["eos_token_id"], 96);
  const std::string text = hf_config_text(list[2]);
  EXPECT_NE(text.find("\"rms_norm_eps\": 1e-06"), std::string::npos) << text;
  EXPECT_NE(text.find("\"rope_theta\": 1000000.0"), std::string::npos) << text;
  const json qwen = json::parse(text);
  EXPECT_TRUE(qwen["eos_token_id"].is_null());
  EXPECT_EQ(qwen["use_sliding_window"], false);
  EXPECT_EQ(qwen["rope_parameters"]["rope_theta"], 1e6);
  EXPECT_EQ(qwen["torch_dtype"], "bfloat16");
  EXPECT_EQ(qwen["dtype"], "bfloat16");
  const json llama = json::parse(hf_config_text(list[1]));
  EXPECT_TRUE(llama["rope_scaling"]["original_max_position_embeddings"].is_number_integer());
  EXPECT_TRUE(llama["rope_scaling"]["factor"].is_number_float());
  EXPECT_EQ(llama["head_dim"], 16);
  EXPECT_EQ(llama["architectures"], json::array({"LlamaForCausalLM"}));
}

TEST(HfConfig, RefusesToWriteWhatTheClassesCannotBeTold) {
  for (const auto& [key, value] : {std::pair{"attention_bias", "false"}, {"mlp_bias", "true"}}) {
    HfConfig config = parse(qwen2());
    (key == std::string("mlp_bias") ? config.model.mlp_bias : config.model.attention_bias) = value;
    try {
      hf_config_text(config);
      ADD_FAILURE() << key;
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find("always has its own biases"), std::string::npos);
    }
  }
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
