// Llama's files: biases and head sizes are keys of their own; GGUF keeps q and k as rotary pairs.
#include "formats/foreign_transformer.h"

namespace lockstep {
namespace {

class ForeignLlama final : public ForeignTransformer {
 public:
  std::string name() const override { return "llama"; }
  std::string hugging_face_class() const override { return "LlamaForCausalLM"; }

  void read_config(ModelConfig& config, const JsonKeys& keys) const override {
    read_llama_config(config, keys);
    config.kv_heads =
        keys.integer_or("num_key_value_heads", ModelLimits::kHeads, /*fallback=*/config.heads);
    config.attention_bias = keys.boolean_or("attention_bias", false) ? "true" : "false";
    config.mlp_bias = keys.boolean_or("mlp_bias", false) ? "true" : "false";
  }

  void write_config(JsonMembers& out, const ModelConfig& config) const override {
    write_llama_config(out, config);
    const TransformerSpec spec = transformer_spec(config);
    out.push_back({"attention_bias", spec.qkv_bias});
    out.push_back({"mlp_bias", spec.mlp_bias});
    out.push_back({"tie_word_embeddings", spec.tied});
  }

 protected:
  RowLayout gguf_query_layout() const override { return RowLayout::kRotaryPairs; }
};

}  // namespace

const ForeignFamily& foreign_llama() {
  static const ForeignLlama family;
  return family;
}

}  // namespace lockstep
