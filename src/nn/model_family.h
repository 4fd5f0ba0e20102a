// ModelFamily: everything that is one architecture's own. The rest of the program asks the family
// of a configuration and never for an architecture's name; a new one is a file that implements
// this, and its entry in model_families.cpp.
#pragma once

#include "nn/model.h"
#include "nn/model_config.h"
#include "nn/parameters.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace lockstep {

// A key of [model] that only this family has. `zero` gives its type; 0 or "" means the default.
struct ModelKey {
  std::string name;
  ModelValue zero;
  std::string help;
};

class ModelFamily {
 public:
  virtual ~ModelFamily() = default;

  // What model.architecture, and other people's config files, call it.
  virtual std::string name() const = 0;
  virtual std::vector<ModelPreset> presets() const = 0;
  virtual std::vector<ModelKey> own_keys() const { return {}; }

  // Fills what is still absent; `tokenizer_vocab` is 0 when there is no tokenizer.
  virtual void set_defaults(ModelConfig& config, std::int64_t tokenizer_vocab) const = 0;
  // Throws UserError(kConfig) naming the key and what it must be. Whatever passes can be trained:
  // no limit shows later.
  virtual void check(const ModelConfig& config, std::int64_t tokenizer_vocab) const = 0;
  // What is worth saying of a configuration that passed, one line each: values that were derived,
  // sizes that run slower.
  virtual std::vector<std::string> notes(const ModelConfig& config) const = 0;

  // In the order in which backward completes their gradients.
  virtual std::vector<Parameter> parameters(const ModelConfig& config) const = 0;
  // Keys besides the sizes that decide which parameters there are, with their values.
  virtual std::vector<std::pair<std::string, std::string>> traits(
      const ModelConfig& config) const = 0;
  // Positions that have weights of their own; 0 when any length can be computed.
  virtual std::int64_t learned_positions(const ModelConfig& config) const = 0;
  // Of training, per token of seq_len long sequences.
  virtual double flops_per_token(const ModelConfig& config) const = 0;

  virtual std::unique_ptr<Model> make(const ModelConfig& config, const ModelPlan& plan,
                                      Arena& arena, ScratchBytes scratch_bytes) const = 0;
};

// All of them; the first is the default.
const std::vector<const ModelFamily*>& model_families();
// The family of config.architecture. Throws UserError(kConfig) naming those there are.
const ModelFamily& family_of(const ModelConfig& config);
// "gpt2, llama or qwen2"
std::string family_names();

// For check(): a vocabulary is there and holds the tokenizer's entries.
void check_vocabulary(const ModelConfig& config, std::int64_t tokenizer_vocab);
// value = fallback where it is still 0.
void set_default(std::int64_t& value, std::int64_t fallback);

}  // namespace lockstep
