// GPT-2 (Radford et al. 2019): LayerNorm, learned positions, GELU, biases everywhere, tied head.
#include "core/error.h"
#include "nn/transformer_family.h"

#include <array>
#include <cmath>

namespace lockstep {
namespace {

constexpr std::array<TransformerPreset, 5> kPresets = {{
    {"gpt2-124m", 12, 12, 12, 768, 3072, 50257, 1024, true},
    {"gpt2-355m", 24, 16, 16, 1024, 4096, 50257, 1024, true},
    {"gpt2-774m", 36, 20, 20, 1280, 5120, 50257, 1024, true},
    {"gpt2-1558m", 48, 25, 25, 1600, 6400, 50257, 1024, true},
    {"gpt2-tiny", 4, 4, 4, 128, 512, 0, 64, true},
}};

class Gpt2Family final : public TransformerFamily {
 public:
  std::string name() const override { return "gpt2"; }
  std::vector<ModelPreset> presets() const override { return as_presets(kPresets); }

  void set_defaults(ModelConfig& config, std::int64_t tokenizer_vocab) const override {
    TransformerFamily::set_defaults(config, tokenizer_vocab);
    set_default(config.ffn, 4 * config.hidden);
  }

  void check(const ModelConfig& config, std::int64_t tokenizer_vocab) const override {
    TransformerFamily::check(config, tokenizer_vocab);
    if (config.hidden == config.heads * config.head_dim) return;
    fail(ExitCode::kConfig, "gpt2 needs model.hidden = heads * head_dim; got {} and {} * {}",
         config.hidden, config.heads, config.head_dim);
  }

  TransformerSpec spec(const ModelConfig& config) const override {
    const auto std = static_cast<float>(config.init_std);
    const bool attention_bias = switch_value(config.attention_bias, true);
    return {.norm = NormKind::kLayerNorm,
            .learned_positions = true,
            .gated_mlp = false,
            .qkv_bias = attention_bias,
            .out_bias = attention_bias,
            .mlp_bias = switch_value(config.mlp_bias, true),
            .tied = switch_value(config.tie_embeddings, true),
            .init_std = std,
            // By the number of maps into the residual stream.
            .residual_std = std / std::sqrt(2.0f * static_cast<float>(config.layers)),
            .token_embedding = "transformer.wte",
            .position_embedding = "transformer.wpe",
            .final_norm = "transformer.ln_f",
            .layer = "transformer.h.",
            .norm1 = "ln_1",
            .out = "attn.c_proj",
            .norm2 = "ln_2",
            .down = "mlp.c_proj",
            .qkv = {"attn.c_attn"},
            .up = {"mlp.c_fc"}};
  }
};

}  // namespace

const ModelFamily& gpt2_family() {
  static const Gpt2Family family;
  return family;
}

}  // namespace lockstep
