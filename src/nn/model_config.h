// The shape of a transformer: GPT-2, Llama and Qwen2 are settings of one model.
// Presets name published shapes; `lockstep plan` computes from this alone.
#pragma once

#include "core/dtype.h"
#include "kernels/table.h"
#include "nn/parameters.h"

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep {

// How rotary frequencies are stretched beyond the context of pre-training.
struct RopeScaling {
  enum class Kind { kNone, kLinear, kLlama3 };
  Kind kind = Kind::kNone;
  double factor = 1.0;
  double low_freq_factor = 1.0;  // llama3 only, as the two below
  double high_freq_factor = 4.0;
  double original_context = 8192.0;  // tokens
  bool operator==(const RopeScaling&) const = default;
};

// "" | "linear:FACTOR" | "llama3:FACTOR,LOW,HIGH,ORIGINAL", as model.rope_scaling takes it. Throws
// UserError(kConfig) naming the key.
RopeScaling parse_rope_scaling(const std::string& text);
// The text that parses back to the same bits.
std::string rope_scaling_text(const RopeScaling& scaling);

// Far above every model there is, and low enough that no product of two sizes overflows.
struct ModelLimits {
  static constexpr std::int64_t kLayers = 1 << 12, kHeads = 1 << 12, kHeadDim = 128;
  static constexpr std::int64_t kHidden = 1 << 18, kFfn = 1 << 21, kVocab = 1 << 24;
  static constexpr std::int64_t kSeqLen = 1 << 26;
};

struct ModelConfig {
  std::string architecture;  // gpt2 | llama | qwen2; "": the preset's, else gpt2
  std::string preset;        // a name of model_presets(), or ""
  std::int64_t layers = 0;   // 0: from the preset, else the tiny default
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;  // 0: as heads
  std::int64_t head_dim = 0;  // 0: hidden / heads
  std::int64_t hidden = 0;
  std::int64_t ffn = 0;        // 0: 4 * hidden (gpt2); must be set for llama and qwen2
  std::int64_t vocab = 0;      // 0: the tokenizer's size
  std::int64_t seq_len = 0;    // context length; also T of training batches
  double norm_eps = 0.0;       // 0: 1e-5 (gpt2, llama), 1e-6 (qwen2)
  double rope_theta = 0.0;     // 0: 10000 (llama), 1000000 (qwen2)
  std::string rope_scaling;    // as parse_rope_scaling() takes it
  std::string attention_bias;  // "", "true", "false": "" is the architecture's own
  std::string mlp_bias;
  std::string tie_embeddings;
  double init_std = 0.02;
  std::string init_from;  // where the first weights come from; "": drawn with init_std

  // Derived; valid after resolve().
  NormKind norm() const;
  bool learned_positions() const { return architecture == "gpt2"; }
  bool gated_mlp() const { return architecture != "gpt2"; }
  bool qkv_bias() const;
  bool out_bias() const;  // the attention output projection's
  bool ffn_bias() const;
  bool tied() const;
  std::int64_t qkv_width() const { return (heads + 2 * kv_heads) * head_dim; }
  std::int64_t padded_vocab() const { return padded_vocabulary(vocab); }
};

// The names that model.preset takes, in the order of --help.
const std::vector<std::string>& model_presets();

// Fills zeros from the preset and the architecture's defaults, then checks every relation.
// `tokenizer_vocab` > 0 gives vocab its default and lower bound. Throws UserError(kConfig) naming
// the key and what it must be.
void resolve(ModelConfig& config, std::int64_t tokenizer_vocab);

std::int64_t parameter_count(const ModelConfig& config);
// Angle per position of each rotary pair, head_dim / 2 of them, scaling applied.
std::vector<float> rope_frequencies(const ModelConfig& config);
// Training FLOPs per token: 6 * (weights in matrix products) + 7 * layers * T * heads * head_dim
// (causal attention counts the useful half).
double flops_per_token(const ModelConfig& config);

}  // namespace lockstep
