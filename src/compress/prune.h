// Structured pruning of heads and feed-forward channels, layer by layer: what matters least on
// calibration text goes, and the map that reads the rest is solved for again by least squares.
// Later blocks see what the pruned earlier ones give, and their solution makes up for those errors
// too.
#pragma once

#include "compress/calibration.h"
#include "compress/pruned_weights.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace lockstep {

// lsq:  weights (and bias) that give the dense model's residual stream back as nearly as they can
// bias: the bias takes the mean of what the dropped channels gave; nothing where there is no bias
inline constexpr const char* kReconstructions[] = {"lsq", "bias", "none"};

struct PruneOptions {
  std::int64_t ffn = 0;             // channels to keep in every layer; 0: all
  std::int64_t kv_heads = 0;        // key and value heads to keep, with their query heads; 0: all
  std::string rank = "wanda";       // of kUnitRanks
  std::string reconstruct = "lsq";  // of kReconstructions
  std::uint64_t seed = 0;           // of the random ranking
};

// Channels that are left when a share in (0, 1) of `ffn` goes: the nearest multiple of 32, which
// blocks of quantized formats need, or of 8 below 256 channels. Throws UserError(kUsage) when
// nothing would go or nothing would stay.
std::int64_t kept_channels(std::int64_t ffn, double share);

// Key and value heads that are left when a share in (0, 1) goes, the nearest number; each takes its
// query heads along. With `divides_hidden`, only numbers whose query heads divide the hidden size,
// which transformers asks for, and no qwen2. Throws UserError(kUsage) as above, and where query,
// key and value are one matrix, since no program loads such a model.
std::int64_t kept_kv_heads(const ModelConfig& config, double share, bool divides_hidden);

// What comes out: `config` with fewer channels and heads.
ModelConfig pruned_config(ModelConfig config, const PruneOptions& options);

// `calibration`'s model holds `original`'s weights and is overwritten: after the call its dropped
// units count for nothing. Same bits at any world size. Collective; `layer_done` is called after
// each layer.
std::unique_ptr<PrunedWeights> prune(Calibration& calibration, const PruneOptions& options,
                                     WeightSource& original, Arena& arena,
                                     const std::function<void(std::int64_t)>& layer_done);

}  // namespace lockstep
