// Checks, counts and names that GPT-2, Llama and Qwen2 share.
#include "nn/transformer_family.h"

#include "core/error.h"
#include "nn/rope_scaling.h"
#include "nn/transformer.h"

namespace lockstep {
namespace {

constexpr std::int64_t kFastHeadDim = 128;

void require(bool ok, const std::string& message) {
  if (!ok) throw UserError(ExitCode::kConfig, message);
}

}  // namespace

void TransformerFamily::set_defaults(ModelConfig& config, std::int64_t tokenizer_vocab) const {
  set_default(config.layers, 4);
  set_default(config.heads, 4);
  set_default(config.hidden, 128);
  set_default(config.seq_len, 64);
  set_default(config.kv_heads, config.heads);
  if (config.heads > 0) set_default(config.head_dim, config.hidden / config.heads);
  set_default(config.vocab, tokenizer_vocab);
  if (config.norm_eps == 0.0) config.norm_eps = 1e-5;
  if (config.rope_theta == 0.0) config.rope_theta = 10000.0;  // of rotary positions, if any
}

void TransformerFamily::check(const ModelConfig& c, std::int64_t tokenizer_vocab) const {
  require(c.layers > 0 && c.heads > 0 && c.hidden > 0 && c.seq_len > 0,
          "model.layers, heads, hidden and seq_len must be positive");
  require(c.ffn > 0, "model.ffn must be positive");
  check_vocabulary(c, tokenizer_vocab);
  require(c.kv_heads > 0 && c.heads % c.kv_heads == 0,
          fmt::format("model.kv_heads = {} must divide model.heads = {}", c.kv_heads, c.heads));
  require(c.head_dim > 0 && c.head_dim <= ModelLimits::kHeadDim,
          fmt::format("head_dim = {} (hidden {} / heads {}) must be 1 to {}; set model.head_dim or "
                      "change model.heads",
                      c.head_dim, c.hidden, c.heads, ModelLimits::kHeadDim));
  require(spec(c).learned_positions || c.head_dim % 2 == 0,
          fmt::format("head_dim = {} (hidden {} / heads {}) must be even: rotary positions turn "
                      "pairs; set model.head_dim or change model.heads",
                      c.head_dim, c.hidden, c.heads));
  const bool scaled = parse_rope_scaling(c.rope_scaling).kind != RopeScaling::Kind::kNone;
  require(!scaled || !spec(c).learned_positions,
          fmt::format("model.rope_scaling: {} has no rotary positions to scale; leave it empty",
                      c.architecture));
}

std::vector<std::string> TransformerFamily::notes(const ModelConfig& c) const {
  std::vector<std::string> notes;
  if (spec(c).gated_mlp && c.ffn == default_gated_ffn(c.hidden)) {
    notes.push_back(
        fmt::format("model.ffn = {} is 8/3 x hidden, rounded up to a multiple of 64", c.ffn));
  }
  if (c.head_dim % 8 != 0 || c.head_dim > kFastHeadDim) {
    notes.push_back(
        fmt::format("head_dim = {}: attention is fastest with a multiple of 8, at most {}",
                    c.head_dim, kFastHeadDim));
  }
  if (c.hidden % 8 != 0 || c.ffn % 8 != 0) {
    notes.push_back(fmt::format(
        "model.hidden = {} and model.ffn = {}: products are fastest with multiples of 8", c.hidden,
        c.ffn));
  }
  return notes;
}

std::vector<Parameter> TransformerFamily::parameters(const ModelConfig& config) const {
  return lay_out(config, spec(config)).parameters;
}

std::vector<std::pair<std::string, std::string>> TransformerFamily::traits(
    const ModelConfig& config) const {
  const TransformerSpec spec = this->spec(config);
  const auto text = [](bool value) { return value ? "true" : "false"; };
  return {{"attention_bias", text(spec.qkv_bias)},
          {"mlp_bias", text(spec.mlp_bias)},
          {"tie_embeddings", text(spec.tied)}};
}

std::int64_t TransformerFamily::learned_positions(const ModelConfig& config) const {
  return spec(config).learned_positions ? config.seq_len : 0;
}

double TransformerFamily::flops_per_token(const ModelConfig& c) const {
  const std::int64_t query = c.heads * c.head_dim;
  const std::int64_t mlp = c.hidden * c.ffn * (spec(c).gated_mlp ? 3 : 2);
  const std::int64_t layer = qkv_width(c) * c.hidden + query * c.hidden + mlp;
  const auto matrices = static_cast<double>(c.layers * layer + c.vocab * c.hidden);
  return 6.0 * matrices + 7.0 * static_cast<double>(c.layers * c.seq_len * query);
}

std::unique_ptr<Model> TransformerFamily::make(const ModelConfig& config, const ModelPlan& plan,
                                               Arena& arena, ScratchBytes scratch_bytes) const {
  return std::make_unique<Transformer>(config, spec(config), plan, arena, scratch_bytes);
}

TransformerSpec transformer_spec(const ModelConfig& config) {
  const auto* family = dynamic_cast<const TransformerFamily*>(&family_of(config));
  CHECK(family != nullptr, "a {} is no transformer", config.architecture);
  return family->spec(config);
}

std::vector<ModelPreset> as_presets(std::span<const TransformerPreset> presets) {
  std::vector<ModelPreset> list;
  for (const TransformerPreset& p : presets) {
    ModelConfig shape;
    shape.layers = p.layers;
    shape.heads = p.heads;
    shape.kv_heads = p.kv_heads;
    shape.hidden = p.hidden;
    shape.ffn = p.ffn;
    shape.vocab = p.vocab;
    shape.seq_len = p.seq_len;
    shape.tie_embeddings = p.tied ? "true" : "false";
    list.push_back({p.name, shape});
  }
  return list;
}

bool switch_value(const std::string& text, bool fallback) {
  return text.empty() ? fallback : text == "true";
}

std::int64_t default_gated_ffn(std::int64_t hidden) { return (8 * hidden / 3 + 63) / 64 * 64; }

TransformerSpec llama_shaped_spec(const ModelConfig& config) {
  const auto std = static_cast<float>(config.init_std);
  return {.norm = NormKind::kRmsNorm,
          .learned_positions = false,
          .gated_mlp = true,
          .mlp_bias = switch_value(config.mlp_bias, false),
          .tied = switch_value(config.tie_embeddings, false),
          .init_std = std,
          .residual_std = std,
          .token_embedding = "model.embed_tokens",
          .position_embedding = "",
          .final_norm = "model.norm",
          .layer = "model.layers.",
          .norm1 = "input_layernorm",
          .out = "self_attn.o_proj",
          .norm2 = "post_attention_layernorm",
          .down = "mlp.down_proj",
          .qkv = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
          .up = {"mlp.gate_proj", "mlp.up_proj"}};
}

}  // namespace lockstep
