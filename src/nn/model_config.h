// The [model] section: the sizes and switches that models share, each key beside its default.
// What they mean to one architecture (defaults, presets, checks) is its ModelFamily's.
#pragma once

#include "core/error.h"

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace lockstep {

// Far above every model there is, and low enough that no product of two sizes overflows.
struct ModelLimits {
  static constexpr std::int64_t kLayers = 1 << 12, kHeads = 1 << 12, kHeadDim = 256;
  static constexpr std::int64_t kHidden = 1 << 18, kFfn = 1 << 21, kVocab = 1 << 24;
  static constexpr std::int64_t kSeqLen = 1 << 24;
};

// Of a key that one family alone has: a size, a number or a text.
using ModelValue = std::variant<std::int64_t, double, std::string>;

struct ModelConfig {
  std::string architecture;  // a ModelFamily's name; "": the preset's, else gpt2
  std::string preset;        // a name of model_presets(), or ""
  std::int64_t layers = 0;   // sizes of 0: from the preset, else the family's default
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;  // 0: as heads
  std::int64_t head_dim = 0;  // 0: hidden / heads
  std::int64_t hidden = 0;
  std::int64_t ffn = 0;
  std::int64_t vocab = 0;    // 0: the tokenizer's size
  std::int64_t seq_len = 0;  // context length; also T of training batches
  double norm_eps = 0.0;
  double rope_theta = 0.0;
  std::string rope_scaling;    // as parse_rope_scaling() takes it
  std::string attention_bias;  // "", "true", "false": "" is the architecture's own
  std::string mlp_bias;
  std::string tie_embeddings;
  double init_std = 0.02;
  std::string init_from;  // where the first weights come from; "": drawn with init_std
  // Values of the families' own keys, by name; absent or 0 or "": the family's default.
  std::map<std::string, ModelValue> own;
};

// A published shape: what it says fills what the user left at 0 or "".
struct ModelPreset {
  std::string name;
  ModelConfig shape;
};

// The names that model.preset takes, in the order of --help.
std::vector<std::string> model_presets();

// Every size and switch of `model` that is still absent (0 or "") becomes that of `from`.
void fill_absent(ModelConfig& model, const ModelConfig& from);

// Fills zeros from the preset and the architecture's defaults, then checks every relation.
// `tokenizer_vocab` > 0 gives vocab its default and lower bound. Throws UserError(kConfig) naming
// the key and what it must be.
void resolve(ModelConfig& config, std::int64_t tokenizer_vocab);

// Of a resolved configuration, as its family counts them.
std::int64_t parameter_count(const ModelConfig& config);
double flops_per_token(const ModelConfig& config);  // training: forward and backward

}  // namespace lockstep
