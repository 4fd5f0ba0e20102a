// Weighted mixtures: each block of kMixtureBlock samples takes a fixed whole number from every
// component, so the proportions hold exactly and a position in the stream is found in O(1).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lockstep {

inline constexpr std::int64_t kMixtureBlock = 1000;

// "0.7:GLOB" split at the colon; without a number before it, weight is 0 and everything is path.
struct WeightedPattern {
  double weight = 0.0;
  std::string path;
};
// Throws UserError(kConfig) for a weight that is not above 0 or not finite.
WeightedPattern parse_pattern(const std::string& pattern);

// Samples per block of each component, by largest remainder (ties: the earlier one); they sum to
// kMixtureBlock. A quota may come out as 0.
std::vector<std::int64_t> mixture_quotas(std::span<const double> weights);

// Where sample `index` of the mixed stream comes from: component and how many samples of that
// component the stream holds before it.
struct MixtureSlot {
  std::size_t component = 0;
  std::int64_t ordinal = 0;
};
MixtureSlot mixture_slot(std::int64_t index, std::span<const std::int64_t> quotas,
                         std::uint64_t seed);

}  // namespace lockstep
