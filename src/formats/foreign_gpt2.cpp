// GPT-2's files: its projections are Conv1D in Hugging Face's, stored [in, out].
#include "core/error.h"
#include "formats/foreign_transformer.h"

namespace lockstep {
namespace {

using Limits = ModelLimits;

class ForeignGpt2 final : public ForeignTransformer {
 public:
  std::string name() const override { return "gpt2"; }
  std::string hugging_face_class() const override { return "GPT2LMHeadModel"; }

  bool is_buffer(const ModelConfig& config, const std::string& name) const override {
    return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") ||
           ForeignTransformer::is_buffer(config, name);
  }

  void read_config(ModelConfig& config, const JsonKeys& keys) const override {
    config.layers = keys.integer("n_layer", Limits::kLayers);
    config.heads = keys.integer("n_head", Limits::kHeads);
    config.hidden = keys.integer("n_embd", Limits::kHidden);
    config.ffn = keys.integer_or("n_inner", Limits::kFfn, 4 * config.hidden);
    config.seq_len = !keys.has("n_positions") && keys.has("n_ctx")
                         ? keys.integer("n_ctx", Limits::kSeqLen)
                         : keys.integer("n_positions", Limits::kSeqLen);
    config.norm_eps = keys.number_or("layer_norm_epsilon", 1e-5);
    keys.require_text("activation_function", {"gelu_new", "gelu_pytorch_tanh"}, "gelu_new");
    keys.require("scale_attn_weights", true, true);
    keys.require("scale_attn_by_inverse_layer_idx", false, false);
    keys.require("add_cross_attention", false, false);
    config.attention_bias = config.mlp_bias = "true";
    config.tie_embeddings = keys.boolean_or("tie_word_embeddings", true) ? "true" : "false";
  }

  void write_config(JsonMembers& out, const ModelConfig& config) const override {
    require_own_biases(config);
    out.push_back({"vocab_size", config.vocab});
    out.push_back({"n_ctx", config.seq_len});
    out.push_back({"n_positions", config.seq_len});
    out.push_back({"n_embd", config.hidden});
    out.push_back({"n_layer", config.layers});
    out.push_back({"n_head", config.heads});
    out.push_back({"n_inner", config.ffn});
    out.push_back({"activation_function", "gelu_new"});
    out.push_back({"layer_norm_epsilon", config.norm_eps});
    // The model was trained without dropout; left out, these would be 0.1.
    for (const char* key : {"resid_pdrop", "embd_pdrop", "attn_pdrop"}) out.push_back({key, 0.0});
    out.push_back({"scale_attn_weights", true});
    out.push_back({"tie_word_embeddings", transformer_spec(config).tied});
  }

  ModelConfig gguf_config(const ModelConfig& config) const override {
    if (config.kv_heads != config.heads) {
      fail(ExitCode::kConfig,
           "model.kv_heads = {}: llama.cpp runs a gpt2 with as many as model.heads = {} only; "
           "export this model as safetensors",
           config.kv_heads, config.heads);
    }
    ModelConfig target = ForeignTransformer::gguf_config(config);
    target.attention_bias = target.mlp_bias = "true";
    return target;
  }

 protected:
  RowLayout hugging_face_layout() const override { return RowLayout::kTransposed; }
};

}  // namespace

const ForeignFamily& foreign_gpt2() {
  static const ForeignGpt2 family;
  return family;
}

}  // namespace lockstep
