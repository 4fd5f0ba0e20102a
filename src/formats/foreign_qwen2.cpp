// Qwen2's files. llama.cpp's qwen2 runs less than ours does; its llama takes every bias, head size
// and scaling, so what a qwen2 cannot say is written as a llama.
#include "formats/foreign_transformer.h"
#include "nn/rope_scaling.h"

namespace lockstep {
namespace {

class ForeignQwen2 final : public ForeignTransformer {
 public:
  std::string name() const override { return "qwen2"; }
  std::string hugging_face_class() const override { return "Qwen2ForCausalLM"; }

  void read_config(ModelConfig& config, const JsonKeys& keys) const override {
    read_llama_config(config, keys);
    // An absent number of key/value heads is 32 to a Qwen2, so a small one always states it.
    config.kv_heads = keys.integer("num_key_value_heads", ModelLimits::kHeads);
    keys.require("use_sliding_window", false, false);
    config.attention_bias = "true";
    config.mlp_bias = "false";
  }

  void write_config(JsonMembers& out, const ModelConfig& config) const override {
    require_own_biases(config);
    write_llama_config(out, config);
    out.push_back({"use_sliding_window", false});
    out.push_back({"sliding_window", {}});
    out.push_back({"max_window_layers", config.layers});
    out.push_back({"tie_word_embeddings", transformer_spec(config).tied});
  }

  ModelConfig gguf_config(const ModelConfig& config) const override {
    ModelConfig target = ForeignTransformer::gguf_config(config);
    if (!is_plain(config)) target.architecture = "llama";
    return target;
  }

 private:
  // Heads that fill the width, biases on q, k and v only, no rotary factors.
  static bool is_plain(const ModelConfig& config) {
    const TransformerSpec spec = transformer_spec(config);
    const auto scaling = parse_rope_scaling(config.rope_scaling).kind;
    return config.heads * config.head_dim == config.hidden && spec.qkv_bias && !spec.mlp_bias &&
           scaling != RopeScaling::Kind::kLlama3;
  }
};

}  // namespace

const ForeignFamily& foreign_qwen2() {
  static const ForeignQwen2 family;
  return family;
}

}  // namespace lockstep
