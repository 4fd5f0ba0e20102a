// Structured pruning of feed-forward channels, layer by layer: what matters least on calibration
// text goes, and the map that reads the rest is solved for again by least squares. Later layers see
// what the pruned earlier ones give, and their solution makes up for those errors too.
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
  std::int64_t ffn = 0;             // channels to keep in every layer
  std::string rank = "wanda";       // of kChannelRanks
  std::string reconstruct = "lsq";  // of kReconstructions
  std::uint64_t seed = 0;           // of the random ranking
};

// Channels that are left when a share in (0, 1) of `ffn` goes: the nearest multiple of 32, which
// blocks of quantized formats need, or of 8 below 256 channels. Throws UserError(kUsage) when
// nothing would go or nothing would stay.
std::int64_t kept_channels(std::int64_t ffn, double share);

// `calibration`'s model holds `original`'s weights and is overwritten: after the call its dropped
// channels count for nothing. Same bits at any world size. Collective; `layer_done` is called after
// each layer.
std::unique_ptr<PrunedWeights> prune_ffn(Calibration& calibration, const PruneOptions& options,
                                         WeightSource& original, Arena& arena,
                                         const std::function<void(std::int64_t)>& layer_done);

}  // namespace lockstep
