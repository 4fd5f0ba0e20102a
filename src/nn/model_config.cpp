// From what the user wrote to a configuration that is complete and can be trained.
#include "nn/model_config.h"

#include "core/error.h"
#include "nn/model_family.h"

#include <algorithm>
#include <type_traits>

namespace lockstep {
namespace {

template <typename T>
void fill(T& value, const T& from) {
  if (value == T{}) value = from;
}

bool is_zero(const ModelValue& value) {
  return std::visit([](const auto& v) { return v == std::decay_t<decltype(v)>{}; }, value);
}

struct FoundPreset {
  const ModelFamily& family;
  ModelPreset preset;
};
FoundPreset find_preset(const std::string& name) {
  for (const ModelFamily* family : model_families()) {
    for (const ModelPreset& preset : family->presets()) {
      if (preset.name == name) return {*family, preset};
    }
  }
  const std::string near = nearest(name, model_presets());
  fail(ExitCode::kConfig, "model.preset: \"{}\" is not known; {}", name,
       near.empty() ? "see lockstep train --help for the list" : "did you mean \"" + near + "\"?");
}

void apply_preset(ModelConfig& config) {
  if (config.preset.empty()) return;
  const FoundPreset found = find_preset(config.preset);
  const std::string architecture = found.family.name();
  if (!config.architecture.empty() && config.architecture != architecture) {
    fail(ExitCode::kConfig,
         "model.architecture = {} contradicts model.preset = {}, which is a {}; leave one out",
         config.architecture, config.preset, architecture);
  }
  config.architecture = architecture;
  fill_absent(config, found.preset.shape);
}

// A value that the architecture would not even read is a mistake.
void check_own_keys(const ModelConfig& config, const ModelFamily& family) {
  const std::vector<ModelKey> keys = family.own_keys();
  for (const auto& [name, value] : config.own) {
    const bool known = std::any_of(keys.begin(), keys.end(),
                                   [&](const ModelKey& key) { return key.name == name; });
    if (known || is_zero(value)) continue;
    fail(ExitCode::kConfig, "model.{}: a {} has no such setting; leave it out", name,
         config.architecture);
  }
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
    if (limit.value <= limit.most) continue;
    fail(ExitCode::kConfig, "model.{} = {} is too large; at most {}", limit.key, limit.value,
         limit.most);
  }
}

}  // namespace

std::vector<std::string> model_presets() {
  std::vector<std::string> names;
  for (const ModelFamily* family : model_families()) {
    for (const ModelPreset& preset : family->presets()) names.push_back(preset.name);
  }
  return names;
}

void fill_absent(ModelConfig& model, const ModelConfig& from) {
  fill(model.architecture, from.architecture);
  for (const auto member :
       {&ModelConfig::layers, &ModelConfig::heads, &ModelConfig::kv_heads, &ModelConfig::head_dim,
        &ModelConfig::hidden, &ModelConfig::ffn, &ModelConfig::vocab, &ModelConfig::seq_len}) {
    fill(model.*member, from.*member);
  }
  fill(model.norm_eps, from.norm_eps);
  fill(model.rope_theta, from.rope_theta);
  fill(model.rope_scaling, from.rope_scaling);
  fill(model.attention_bias, from.attention_bias);
  fill(model.mlp_bias, from.mlp_bias);
  fill(model.tie_embeddings, from.tie_embeddings);
  for (const auto& [name, value] : from.own) {
    const auto [at, added] = model.own.try_emplace(name, value);
    if (!added && is_zero(at->second)) at->second = value;
  }
}

void resolve(ModelConfig& config, std::int64_t tokenizer_vocab) {
  apply_preset(config);
  if (config.architecture.empty()) config.architecture = model_families().front()->name();
  const ModelFamily& family = family_of(config);
  check_own_keys(config, family);
  check_limits(config);
  family.set_defaults(config, tokenizer_vocab);
  family.check(config, tokenizer_vocab);
}

std::int64_t parameter_count(const ModelConfig& config) {
  std::int64_t total = 0;
  for (const Parameter& parameter : family_of(config).parameters(config)) {
    total += parameter.count();
  }
  return total;
}

double flops_per_token(const ModelConfig& config) {
  return family_of(config).flops_per_token(config);
}

const ModelFamily& family_of(const ModelConfig& config) {
  for (const ModelFamily* family : model_families()) {
    if (family->name() == config.architecture) return *family;
  }
  fail(ExitCode::kConfig, "model.architecture: \"{}\" is not known; use {}", config.architecture,
       family_names());
}

std::string family_names() {
  const auto& families = model_families();
  std::string names;
  for (std::size_t i = 0; i < families.size(); ++i) {
    names += (i == 0 ? "" : i + 1 == families.size() ? " or " : ", ") + families[i]->name();
  }
  return names;
}

void check_vocabulary(const ModelConfig& config, std::int64_t tokenizer_vocab) {
  if (config.vocab <= 0) {
    fail(ExitCode::kConfig, "model.vocab: give it, or data with a tokenizer");
  }
  if (config.vocab < tokenizer_vocab) {
    fail(ExitCode::kConfig, "model.vocab = {} is smaller than the tokenizer's {} entries; raise it",
         config.vocab, tokenizer_vocab);
  }
}

void set_default(std::int64_t& value, std::int64_t fallback) {
  if (value == 0) value = fallback;
}

}  // namespace lockstep
