// Qwen2 (Yang et al., arXiv 2407.10671): Llama's block with biases on q, k and v only.
#include "nn/transformer_family.h"

#include <array>

namespace lockstep {
namespace {

// As Qwen2.5 publishes them in its config.json; the last one is small.
constexpr std::array<TransformerPreset, 3> kPresets = {{
    {"qwen2.5-0.5b", 24, 14, 2, 896, 4864, 151936, 1024, true},
    {"qwen2.5-1.5b", 28, 12, 2, 1536, 8960, 151936, 1024, true},
    {"qwen2-tiny", 4, 4, 2, 128, 344, 0, 64, true},
}};

class Qwen2Family final : public TransformerFamily {
 public:
  std::string name() const override { return "qwen2"; }
  std::vector<ModelPreset> presets() const override { return as_presets(kPresets); }

  void set_defaults(ModelConfig& config, std::int64_t tokenizer_vocab) const override {
    if (config.norm_eps == 0.0) config.norm_eps = 1e-6;
    if (config.rope_theta == 0.0) config.rope_theta = 1000000.0;
    TransformerFamily::set_defaults(config, tokenizer_vocab);
    set_default(config.ffn, default_gated_ffn(config.hidden));
  }

  TransformerSpec spec(const ModelConfig& config) const override {
    TransformerSpec spec = llama_shaped_spec(config);
    spec.qkv_bias = switch_value(config.attention_bias, true);
    return spec;
  }
};

}  // namespace

const ModelFamily& qwen2_family() {
  static const Qwen2Family family;
  return family;
}

}  // namespace lockstep
