// What the families that the Transformer computes have in common; each gives its TransformerSpec,
// defaults and presets.
#pragma once

#include "nn/model_family.h"
#include "nn/transformer_spec.h"

namespace lockstep {

class TransformerFamily : public ModelFamily {
 public:
  // Of a resolved configuration.
  virtual TransformerSpec spec(const ModelConfig& config) const = 0;

  void set_defaults(ModelConfig& config, std::int64_t tokenizer_vocab) const override;
  void check(const ModelConfig& config, std::int64_t tokenizer_vocab) const override;
  std::vector<std::string> notes(const ModelConfig& config) const override;
  std::vector<Parameter> parameters(const ModelConfig& config) const override;
  std::vector<std::pair<std::string, std::string>> traits(const ModelConfig& config) const override;
  std::int64_t learned_positions(const ModelConfig& config) const override;
  // 6 * (weights in matrix products) + 7 * layers * T * heads * head_dim (causal attention counts
  // the useful half).
  double flops_per_token(const ModelConfig& config) const override;
  std::unique_ptr<Model> make(const ModelConfig& config, const ModelPlan& plan, Arena& arena,
                              ScratchBytes scratch_bytes) const override;
};

// The spec of a configuration whose family is one of these.
TransformerSpec transformer_spec(const ModelConfig& config);

// A shape as papers and model cards give it.
struct TransformerPreset {
  const char* name;
  std::int64_t layers, heads, kv_heads, hidden, ffn, vocab, seq_len;
  bool tied;
};
std::vector<ModelPreset> as_presets(std::span<const TransformerPreset> presets);

// "true" and "false" as they say, "" as the fallback.
bool switch_value(const std::string& text, bool fallback);

// Defaults and parameter names of the Llama lineage: RMSNorm, rotary positions, gated MLP.
std::int64_t default_gated_ffn(std::int64_t hidden);  // 8/3 x hidden, rounded up to 64
TransformerSpec llama_shaped_spec(const ModelConfig& config);

}  // namespace lockstep
