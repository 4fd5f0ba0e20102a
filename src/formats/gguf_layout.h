// What a model becomes in a GGUF file: the architecture under which llama.cpp runs it, the hyper-
// parameters, and the rotary factors. llama.cpp's qwen2 and gpt2 run less than ours do; its llama
// takes every bias, head size and scaling, so what a qwen2 cannot say is written as a llama.
#pragma once

#include "formats/gguf.h"
#include "nn/model_config.h"

#include <string>
#include <vector>

namespace lockstep {

// The model as the file has it: architecture, and biases that the file needs although the model
// has none (they are zeros). Throws UserError(kConfig) naming the key that llama.cpp cannot run.
ModelConfig gguf_config(const ModelConfig& config);

// general.architecture and A.*, of a gguf_config().
void add_hyperparameters(GgufMetadata& metadata, const ModelConfig& config);

// What rotary frequencies are divided by under llama3 scaling (tensor rope_freqs.weight), D/2 of
// them; empty for other scalings.
std::vector<float> rope_factors(const ModelConfig& config);

inline constexpr const char* kRopeFactorsName = "rope_freqs.weight";
// Our own key: the scaling behind rope_freqs.weight, as model.rope_scaling spells it.
inline constexpr const char* kRopeScalingKey = "lockstep.rope_scaling";

}  // namespace lockstep
