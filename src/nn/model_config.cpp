// Presets, defaults by architecture, and the checks on a model's shape.
#include "nn/model_config.h"

#include "core/error.h"

#include <array>

namespace lockstep {
namespace {

struct Preset {
  const char* name;
  const char* architecture;
  std::int64_t layers, heads, kv_heads, hidden, ffn, vocab, seq_len;
  bool tied;
};

// GPT-2: Radford et al. 2019; Qwen2.5: its published config.json; llama-*: Llama's shape, small.
constexpr std::array<Preset, 11> kPresets = {{
    {"gpt2-124m", "gpt2", 12, 12, 12, 768, 3072, 50257, 1024, true},
    {"gpt2-355m", "gpt2", 24, 16, 16, 1024, 4096, 50257, 1024, true},
    {"gpt2-774m", "gpt2", 36, 20, 20, 1280, 5120, 50257, 1024, true},
    {"gpt2-1558m", "gpt2", 48, 25, 25, 1600, 6400, 50257, 1024, true},
    {"qwen2.5-0.5b", "qwen2", 24, 14, 2, 896, 4864, 151936, 1024, true},
    {"qwen2.5-1.5b", "qwen2", 28, 12, 2, 1536, 8960, 151936, 1024, true},
    {"llama-60m", "llama", 8, 8, 8, 512, 1376, 32000, 1024, false},
    {"llama-160m", "llama", 12, 12, 12, 768, 2048, 32000, 1024, false},
    {"gpt2-tiny", "gpt2", 4, 4, 4, 128, 512, 0, 64, true},
    {"llama-tiny", "llama", 4, 4, 2, 128, 344, 0, 64, false},
    {"qwen2-tiny", "qwen2", 4, 4, 2, 128, 344, 0, 64, true},
}};

const Preset& preset_of(const ModelConfig& config) {
  for (const Preset& preset : kPresets) {
    if (config.preset == preset.name) return preset;
  }
  const std::string near = nearest(config.preset, model_presets());
  fail(ExitCode::kConfig, "model.preset: \"{}\" is not known; {}", config.preset,
       near.empty() ? "see lockstep train --help for the list" : "did you mean \"" + near + "\"?");
}

void take(std::int64_t& value, std::int64_t fallback) {
  if (value == 0) value = fallback;
}

void apply_preset(ModelConfig& config) {
  if (config.preset.empty()) return;
  const Preset& preset = preset_of(config);
  if (!config.architecture.empty() && config.architecture != preset.architecture) {
    fail(ExitCode::kConfig,
         "model.architecture = {} contradicts model.preset = {}, which is a {}; leave one out",
         config.architecture, config.preset, preset.architecture);
  }
  config.architecture = preset.architecture;
  take(config.layers, preset.layers);
  take(config.heads, preset.heads);
  take(config.kv_heads, preset.kv_heads);
  take(config.hidden, preset.hidden);
  take(config.ffn, preset.ffn);
  take(config.vocab, preset.vocab);
  take(config.seq_len, preset.seq_len);
  if (config.tie_embeddings.empty()) config.tie_embeddings = preset.tied ? "true" : "false";
}

void apply_defaults(ModelConfig& config, std::int64_t tokenizer_vocab) {
  if (config.architecture.empty()) config.architecture = "gpt2";
  take(config.layers, 4);
  take(config.heads, 4);
  take(config.hidden, 128);
  take(config.seq_len, 64);
  take(config.kv_heads, config.heads);
  if (config.head_dim == 0 && config.heads > 0) config.head_dim = config.hidden / config.heads;
  if (config.architecture == "gpt2") take(config.ffn, 4 * config.hidden);
  take(config.vocab, tokenizer_vocab);
  if (config.norm_eps == 0.0) config.norm_eps = config.architecture == "qwen2" ? 1e-6 : 1e-5;
  if (config.rope_theta == 0.0) {
    config.rope_theta = config.architecture == "qwen2" ? 1000000.0 : 10000.0;
  }
}

void require(bool ok, const std::string& message) {
  if (!ok) throw UserError(ExitCode::kConfig, message);
}

void check_limits(const ModelConfig& c) {
  struct Limit {
    const char* key;
    std::int64_t value, most;
  };
  for (const Limit& limit : {Limit{"layers", c.layers, ModelLimits::kLayers},
                             {"heads", c.heads, ModelLimits::kHeads},
                             {"kv_heads", c.kv_heads, ModelLimits::kHeads},
                             {"hidden", c.hidden, ModelLimits::kHidden},
                             {"ffn", c.ffn, ModelLimits::kFfn},
                             {"vocab", c.vocab, ModelLimits::kVocab},
                             {"seq_len", c.seq_len, ModelLimits::kSeqLen}}) {
    require(limit.value <= limit.most, fmt::format("model.{} = {} is too large; at most {}",
                                                   limit.key, limit.value, limit.most));
  }
}

void check(const ModelConfig& c, std::int64_t tokenizer_vocab) {
  require(c.architecture == "gpt2" || c.architecture == "llama" || c.architecture == "qwen2",
          fmt::format("model.architecture: \"{}\" is not known; use gpt2, llama or qwen2",
                      c.architecture));
  require(c.layers > 0 && c.heads > 0 && c.hidden > 0 && c.seq_len > 0,
          "model.layers, heads, hidden and seq_len must be positive");
  require(c.ffn > 0, fmt::format("model.ffn must be set for {}", c.architecture));
  require(c.vocab > 0, "model.vocab: give it, or data with a tokenizer");
  require(c.vocab >= tokenizer_vocab,
          fmt::format("model.vocab = {} is smaller than the tokenizer's {} entries; raise it",
                      c.vocab, tokenizer_vocab));
  require(c.kv_heads > 0 && c.heads % c.kv_heads == 0,
          fmt::format("model.kv_heads = {} must divide model.heads = {}", c.kv_heads, c.heads));
  require(c.head_dim > 0 && c.head_dim % 8 == 0 && c.head_dim <= ModelLimits::kHeadDim,
          fmt::format("head_dim = {} (hidden {} / heads {}) must be a multiple of 8, at most 128; "
                      "set model.head_dim or change model.heads",
                      c.head_dim, c.hidden, c.heads));
  require(c.learned_positions() ? c.hidden == c.heads * c.head_dim : true,
          fmt::format("gpt2 needs model.hidden = heads * head_dim; got {} and {} * {}", c.hidden,
                      c.heads, c.head_dim));
  require(
      c.hidden % 8 == 0 && c.ffn % 8 == 0,
      fmt::format("model.hidden = {} and model.ffn = {} must be multiples of 8", c.hidden, c.ffn));
  const bool scaled = parse_rope_scaling(c.rope_scaling).kind != RopeScaling::Kind::kNone;
  require(!scaled || !c.learned_positions(),
          "model.rope_scaling: gpt2 has no rotary positions to scale; leave it empty");
}

bool flag(const std::string& text, bool fallback) {
  return text.empty() ? fallback : text == "true";
}

}  // namespace

const std::vector<std::string>& model_presets() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Preset& preset : kPresets) list.emplace_back(preset.name);
    return list;
  }();
  return names;
}

NormKind ModelConfig::norm() const {
  return learned_positions() ? NormKind::kLayerNorm : NormKind::kRmsNorm;
}

bool ModelConfig::qkv_bias() const { return flag(attention_bias, architecture != "llama"); }

// Qwen2 has biases on q, k and v only; Llama's attention_bias covers all four projections.
bool ModelConfig::out_bias() const { return architecture != "qwen2" && qkv_bias(); }

bool ModelConfig::ffn_bias() const { return flag(mlp_bias, architecture == "gpt2"); }

bool ModelConfig::tied() const { return flag(tie_embeddings, architecture == "gpt2"); }

void resolve(ModelConfig& config, std::int64_t tokenizer_vocab) {
  apply_preset(config);
  check_limits(config);
  apply_defaults(config, tokenizer_vocab);
  check(config, tokenizer_vocab);
}

std::int64_t parameter_count(const ModelConfig& c) {
  const std::int64_t norm_size = c.hidden * (c.norm() == NormKind::kLayerNorm ? 2 : 1);
  const std::int64_t query = c.heads * c.head_dim;
  std::int64_t layer = 2 * norm_size;
  layer += c.qkv_width() * (c.hidden + (c.qkv_bias() ? 1 : 0));
  layer += c.hidden * (query + (c.out_bias() ? 1 : 0));
  const std::int64_t up = c.ffn * (c.gated_mlp() ? 2 : 1);
  layer += up * (c.hidden + (c.ffn_bias() ? 1 : 0));
  layer += c.hidden * (c.ffn + (c.ffn_bias() ? 1 : 0));
  std::int64_t total = c.layers * layer + norm_size + c.vocab * c.hidden * (c.tied() ? 1 : 2);
  if (c.learned_positions()) total += c.seq_len * c.hidden;
  return total;
}

double flops_per_token(const ModelConfig& c) {
  const std::int64_t query = c.heads * c.head_dim;
  const std::int64_t mlp = c.hidden * c.ffn * (c.gated_mlp() ? 3 : 2);
  const std::int64_t layer = c.qkv_width() * c.hidden + query * c.hidden + mlp;
  const auto matrices = static_cast<double>(c.layers * layer + c.vocab * c.hidden);
  return 6.0 * matrices + 7.0 * static_cast<double>(c.layers * c.seq_len * query);
}

}  // namespace lockstep
