// Small config.json files of every family, one member changed at a time, and what their reader
// says.
#pragma once

#include "core/error.h"
#include "formats/hf_config.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>
#include <utility>
#include <vector>

namespace lockstep::test {

using nlohmann::json;

inline const json kGpt2 = {{"model_type", "gpt2"}, {"vocab_size", 97}, {"n_positions", 64},
                           {"n_embd", 48},         {"n_layer", 2},     {"n_head", 3}};

inline const json kLlama = {{"model_type", "llama"},    {"vocab_size", 128},
                            {"hidden_size", 64},        {"intermediate_size", 176},
                            {"num_hidden_layers", 3},   {"num_attention_heads", 4},
                            {"num_key_value_heads", 2}, {"max_position_embeddings", 256},
                            {"torch_dtype", "bfloat16"}};

inline json with(json base, const char* key, json value) {
  base[key] = std::move(value);
  return base;
}

inline json qwen2() { return with(kLlama, "model_type", "qwen2"); }

inline HfConfig parse(const json& config) {
  return parse_hf_config(config.dump(), "dir/config.json");
}

inline std::string refusal(const std::string& text) {
  try {
    parse_hf_config(text, "dir/config.json");
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
    EXPECT_EQ(std::string(error.what()).find("dir/config.json: "), 0u) << error.what();
    return error.what();
  }
  return "";
}

inline void expect_refused(const json& config, const std::string& part) {
  const std::string message = refusal(config.dump());
  EXPECT_NE(message.find(part), std::string::npos) << config.dump() << "\n" << message;
}

// One of each family, with what is not a default.
inline std::vector<HfConfig> shapes() {
  std::vector<HfConfig> list = {parse(kGpt2), parse(kLlama), parse(qwen2())};
  list[0].bos_token_id = 96;
  list[0].eos_token_ids = {96};
  list[1].eos_token_ids = {5, 6};
  list[0].model.norm_eps = 3e-6;
  list[1].model.rope_scaling = "llama3:8,1.25,4.5,32";
  list[1].model.attention_bias = list[1].model.tie_embeddings = "true";
  list[1].dtype = "fp16";
  list[2].model.rope_scaling = "linear:2.5";
  list[2].model.rope_theta = 1e6;
  list[2].quantization = R"({"quant_method":"compressed-tensors"})";
  return list;
}

}  // namespace lockstep::test
