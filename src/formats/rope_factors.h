// Rotary factors: how llama.cpp is told of llama3 scaling.
#pragma once

#include "nn/model_config.h"

#include <vector>

namespace lockstep {

// What rotary frequencies are divided by under llama3 scaling (tensor rope_freqs.weight), D/2 of
// them; empty for other scalings.
std::vector<float> rope_factors(const ModelConfig& config);

inline constexpr const char* kRopeFactorsName = "rope_freqs.weight";
// Our own key: the scaling behind rope_freqs.weight, as model.rope_scaling spells it.
inline constexpr const char* kRopeScalingKey = "lockstep.rope_scaling";

}  // namespace lockstep
