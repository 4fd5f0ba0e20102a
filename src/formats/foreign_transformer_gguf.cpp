// A transformer's shape in GGUF's metadata, both ways; tensors say which biases there are and
// whether the output is tied.
#include "core/error.h"
#include "formats/foreign_transformer.h"
#include "formats/rope_factors.h"
#include "nn/rope_scaling.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace lockstep {
namespace {

// Keys below the architecture that may only have this value, or be absent.
struct OnlyValue {
  const char* key;
  double value;
};
constexpr std::array<OnlyValue, 11> kOnlyValues = {{{"expert_count", 0.0},
                                                    {"expert_used_count", 0.0},
                                                    {"attention.sliding_window", 0.0},
                                                    {"attention.scale", 0.0},
                                                    {"attention.clamp_kqv", 0.0},
                                                    {"attention.max_alibi_bias", 0.0},
                                                    {"attention.causal", 1.0},
                                                    {"logit_scale", 1.0},
                                                    {"embedding_scale", 1.0},
                                                    {"residual_scale", 1.0},
                                                    {"rope.scaling.attn_factor", 1.0}}};

const char* yes_or_no(bool value) { return value ? "true" : "false"; }

const char* epsilon_key(const TransformerSpec& spec) {
  return spec.norm == NormKind::kLayerNorm ? "attention.layer_norm_epsilon"
                                           : "attention.layer_norm_rms_epsilon";
}

std::uint32_t u32(std::int64_t value) {
  CHECK(value >= 0 && value <= std::numeric_limits<std::uint32_t>::max(), "{}", value);
  return static_cast<std::uint32_t>(value);
}

class ShapeReader {
 public:
  ShapeReader(ModelConfig& config, const GgufKeys& keys)
      : config_(config), keys_(keys), spec_(transformer_spec(config)), path_(keys.path()) {}

  void run() {
    check_only_values();
    read_sizes();
    read_tensors();
    if (!spec_.learned_positions) read_rotary();
  }

 private:
  std::string key(const std::string& suffix) const { return config_.architecture + "." + suffix; }
  std::int64_t size(const std::string& suffix) const { return keys_.required_size(key(suffix)); }

  void check_only_values() const {
    for (const OnlyValue& only : kOnlyValues) {
      const std::optional<double> value = keys_.number(key(only.key));
      if (!value || *value == only.value) continue;
      fail(ExitCode::kData, "{}: key {} = {} is not supported (only {} is)", path_, key(only.key),
           *value, only.value);
    }
  }

  void read_sizes() {
    config_.seq_len = size("context_length");
    config_.hidden = size("embedding_length");
    config_.layers = size("block_count");
    config_.ffn = size("feed_forward_length");
    config_.heads = size("attention.head_count");
    config_.kv_heads = keys_.size(key("attention.head_count_kv")).value_or(config_.heads);
    config_.head_dim =
        keys_.size(key("attention.key_length")).value_or(config_.hidden / config_.heads);
    const auto value_length = keys_.size(key("attention.value_length"));
    if (value_length.value_or(config_.head_dim) != config_.head_dim) {
      fail(ExitCode::kData, "{}: key {} = {} is not supported: it must be {}, as keys are", path_,
           key("attention.value_length"), *value_length, config_.head_dim);
    }
    const std::string eps = key(epsilon_key(spec_));
    config_.norm_eps = keys_.required(keys_.number(eps), eps);
  }

  void read_tensors() {
    config_.tie_embeddings = yes_or_no(!keys_.has_tensor("output.weight"));
    const char* bias = spec_.qkv.size() == 1 ? "blk.0.attn_qkv.bias" : "blk.0.attn_q.bias";
    config_.attention_bias = yes_or_no(keys_.has_tensor(bias));
    config_.mlp_bias = yes_or_no(keys_.has_tensor("blk.0.ffn_up.bias"));
  }

  void read_rotary() {
    config_.rope_theta = keys_.number(key("rope.freq_base")).value_or(10000.0);
    const auto rotated = keys_.size(key("rope.dimension_count"));
    if (rotated.value_or(config_.head_dim) != config_.head_dim) {
      fail(ExitCode::kData, "{}: key {} = {} is not supported: whole heads of {} must be rotated",
           path_, key("rope.dimension_count"), *rotated, config_.head_dim);
    }
    const std::string type = keys_.text(key("rope.scaling.type")).value_or("none");
    if (type != "none" && type != "linear") {
      fail(ExitCode::kData, "{}: key {} = '{}' is not supported (only none and linear are)", path_,
           key("rope.scaling.type"), type);
    }
    const double factor = keys_.number(key("rope.scaling.factor")).value_or(1.0);
    if (type == "linear" && factor != 1.0 && factor != 0.0) {
      config_.rope_scaling = fmt::format("linear:{}", factor);
    }
    if (keys_.has_tensor(kRopeFactorsName)) read_rope_factors();
  }

  // The factors alone do not say where they come from: ours carry a key, others are compared with
  // the scalings in use (Llama 3.1 and 3.2).
  void read_rope_factors() {
    const SourceTensor& tensor = *keys_.file().find(kRopeFactorsName);
    if (tensor.shape != Shape{config_.head_dim / 2}) {
      fail(ExitCode::kData, "{}: tensor {} has shape {} instead of [{}]", path_, kRopeFactorsName,
           tensor.shape.str(), config_.head_dim / 2);
    }
    std::vector<float> stored(static_cast<std::size_t>(tensor.shape.count()));
    keys_.file().read(kRopeFactorsName, 0, stored);
    if (std::all_of(stored.begin(), stored.end(), [](float f) { return f == 1.0f; })) return;
    const std::string own = keys_.text(kRopeScalingKey).value_or("");
    for (const std::string& scaling :
         {own, std::string("llama3:8,1,4,8192"), std::string("llama3:32,1,4,8192")}) {
      if (!explains(scaling, stored)) continue;
      config_.rope_scaling = scaling;
      return;
    }
    fail(ExitCode::kData,
         "{}: tensor {} holds a rotary scaling that is not known (llama3 with factor 8 or 32 is)",
         path_, kRopeFactorsName);
  }

  bool explains(const std::string& scaling, const std::vector<float>& stored) const {
    ModelConfig scaled = config_;
    scaled.rope_scaling = scaling;
    std::vector<float> factors;
    try {
      factors = rope_factors(scaled);
    } catch (const UserError& error) {
      fail(ExitCode::kData, "{}: key {}: {}", path_, kRopeScalingKey, error.what());
    }
    return std::equal(factors.begin(), factors.end(), stored.begin(), stored.end(),
                      [](float a, float b) { return std::fabs(a - b) <= 1e-4f * std::fabs(a); });
  }

  ModelConfig& config_;
  const GgufKeys& keys_;
  TransformerSpec spec_;
  const std::string& path_;
};

}  // namespace

ModelConfig ForeignTransformer::gguf_config(const ModelConfig& config) const {
  const TransformerSpec spec = transformer_spec(config);
  ModelConfig target = config;
  target.preset.clear();
  target.tie_embeddings = yes_or_no(spec.tied);
  target.attention_bias = yes_or_no(spec.qkv_bias);
  target.mlp_bias = yes_or_no(spec.mlp_bias);
  return target;
}

void ForeignTransformer::add_hyperparameters(GgufMetadata& metadata,
                                             const ModelConfig& config) const {
  const auto add = [&](const std::string& key, GgufValue value) {
    metadata.emplace_back(config.architecture + "." + key, std::move(value));
  };
  const TransformerSpec spec = transformer_spec(config);
  add("context_length", u32(config.seq_len));
  add("embedding_length", u32(config.hidden));
  add("block_count", u32(config.layers));
  add("feed_forward_length", u32(config.ffn));
  add("attention.head_count", u32(config.heads));
  add("attention.head_count_kv", u32(config.kv_heads));
  add("vocab_size", u32(config.vocab));
  add(epsilon_key(spec), static_cast<float>(config.norm_eps));
  if (spec.learned_positions) return;
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

void ForeignTransformer::read_gguf(ModelConfig& config, const GgufKeys& keys) const {
  ShapeReader(config, keys).run();
}

}  // namespace lockstep
