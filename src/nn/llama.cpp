// Llama (Touvron et al., arXiv 2302.13971): RMSNorm, rotary positions, gated MLP, no biases unless
// asked for.
#include "nn/transformer_family.h"

#include <array>

namespace lockstep {
namespace {

// Llama's shape, small.
constexpr std::array<TransformerPreset, 3> kPresets = {{
    {"llama-60m", 8, 8, 8, 512, 1376, 32000, 1024, false},
    {"llama-160m", 12, 12, 12, 768, 2048, 32000, 1024, false},
    {"llama-tiny", 4, 4, 2, 128, 344, 0, 64, false},
}};

class LlamaFamily final : public TransformerFamily {
 public:
  std::string name() const override { return "llama"; }
  std::vector<ModelPreset> presets() const override { return as_presets(kPresets); }

  void set_defaults(ModelConfig& config, std::int64_t tokenizer_vocab) const override {
    TransformerFamily::set_defaults(config, tokenizer_vocab);
    set_default(config.ffn, default_gated_ffn(config.hidden));
  }

  // attention_bias covers all four projections.
  TransformerSpec spec(const ModelConfig& config) const override {
    TransformerSpec spec = llama_shaped_spec(config);
    spec.qkv_bias = spec.out_bias = switch_value(config.attention_bias, false);
    return spec;
  }
};

}  // namespace

const ModelFamily& llama_family() {
  static const LlamaFamily family;
  return family;
}

}  // namespace lockstep
