// The rules of llama.cpp's model loaders, as they concern models of ours.
#include "formats/gguf_layout.h"

#include "core/error.h"

#include <limits>

namespace lockstep {
namespace {

// llama.cpp's qwen2: heads that fill the width, biases on q, k and v only, no rotary factors.
bool is_plain_qwen2(const ModelConfig& config) {
  const auto scaling = parse_rope_scaling(config.rope_scaling).kind;
  return config.heads * config.head_dim == config.hidden && config.qkv_bias() &&
         !config.ffn_bias() && scaling != RopeScaling::Kind::kLlama3;
}

std::uint32_t u32(std::int64_t value) {
  CHECK(value >= 0 && value <= std::numeric_limits<std::uint32_t>::max(), "{}", value);
  return static_cast<std::uint32_t>(value);
}

}  // namespace

ModelConfig gguf_config(const ModelConfig& config) {
  ModelConfig target = config;
  target.preset.clear();
  target.tie_embeddings = config.tied() ? "true" : "false";
  target.attention_bias = config.qkv_bias() ? "true" : "false";
  target.mlp_bias = config.ffn_bias() ? "true" : "false";
  if (config.architecture == "gpt2") {
    target.attention_bias = "true";
    target.mlp_bias = "true";
    if (config.kv_heads != config.heads) {
      fail(ExitCode::kConfig,
           "model.kv_heads = {}: llama.cpp runs a gpt2 with as many as model.heads = {} only; "
           "export this model as safetensors",
           config.kv_heads, config.heads);
    }
  }
  if (config.architecture == "qwen2" && !is_plain_qwen2(config)) target.architecture = "llama";
  return target;
}

void add_hyperparameters(GgufMetadata& metadata, const ModelConfig& config) {
  const std::string& arch = config.architecture;
  const auto add = [&](const std::string& key, GgufValue value) {
    metadata.emplace_back(arch + "." + key, std::move(value));
  };
  add("context_length", u32(config.seq_len));
  add("embedding_length", u32(config.hidden));
  add("block_count", u32(config.layers));
  add("feed_forward_length", u32(config.ffn));
  add("attention.head_count", u32(config.heads));
  add("attention.head_count_kv", u32(config.kv_heads));
  add("vocab_size", u32(config.vocab));
  const bool layer_norm = config.norm() == NormKind::kLayerNorm;
  add(layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
      static_cast<float>(config.norm_eps));
  if (config.learned_positions()) return;
  add("rope.freq_base", static_cast<float>(config.rope_theta));
  add("rope.dimension_count", u32(config.head_dim));
  if (config.heads * config.head_dim != config.hidden) {
    add("attention.key_length", u32(config.head_dim));
    add("attention.value_length", u32(config.head_dim));
  }
  const RopeScaling scaling = parse_rope_scaling(config.rope_scaling);
  if (scaling.kind == RopeScaling::Kind::kLinear) {
    add("rope.scaling.type", std::string("linear"));
    add("rope.scaling.factor", static_cast<float>(scaling.factor));
  }
  if (scaling.kind == RopeScaling::Kind::kLlama3) {
    metadata.emplace_back(kRopeScalingKey, config.rope_scaling);
  }
}

std::vector<float> rope_factors(const ModelConfig& config) {
  const auto kind = parse_rope_scaling(config.rope_scaling).kind;
  if (kind != RopeScaling::Kind::kLlama3) return {};
  ModelConfig plain = config;
  plain.rope_scaling.clear();
  const std::vector<float> scaled = rope_frequencies(config);
  std::vector<float> factors = rope_frequencies(plain);
  for (std::size_t i = 0; i < factors.size(); ++i) factors[i] /= scaled[i];
  return factors;
}

}  // namespace lockstep
