// config.json as we write it: it reads back the same, with the types that readers insist on.
#include "formats/hf_config_sample.h"
#include "nn/transformer_family.h"

namespace lockstep {
namespace {

using nlohmann::json;
using test::kGpt2;
using test::kLlama;
using test::parse;
using test::qwen2;
using test::shapes;
using test::with;

TEST(HfConfigWrite, WhatIsWrittenReadsBackTheSame) {
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
    EXPECT_EQ(config.eos_token_ids, back.eos_token_ids);
    EXPECT_EQ(config.quantization, back.quantization);
  }
}

TEST(HfConfigWrite, WritesTheTypesThatReadersInsistOn) {
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

TEST(HfConfigWrite, RefusesToWriteWhatTheClassesCannotBeTold) {
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

}  // namespace
}  // namespace lockstep
