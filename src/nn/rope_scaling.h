// Rotary frequencies of a model, and how they are stretched beyond the context of pre-training.
#pragma once

#include "nn/model_config.h"

#include <string>
#include <vector>

namespace lockstep {

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

// Angle per position of each rotary pair, head_dim / 2 of them, scaling applied.
std::vector<float> rope_frequencies(const ModelConfig& config);

}  // namespace lockstep
