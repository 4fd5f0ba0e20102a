// Quotas and slots. Only +, *, / and floor touch the weights, so every machine gets equal quotas.
#include "data/mixture.h"

#include "core/error.h"
#include "core/rng.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

namespace lockstep {

WeightedPattern parse_pattern(const std::string& pattern) {
  const std::size_t colon = pattern.find(':');
  if (colon == std::string::npos || colon == 0) return {0.0, pattern};
  const std::string number = pattern.substr(0, colon);
  const char* const last = number.data() + number.size();
  double weight = 0.0;
  if (std::from_chars(number.data(), last, weight).ptr != last) return {0.0, pattern};
  if (!std::isfinite(weight) || weight <= 0.0) {
    fail(ExitCode::kConfig, "'{}': the weight {} must be a number above 0, as in 0.7:corpus/*.bin",
         pattern, number);
  }
  return {weight, pattern.substr(colon + 1)};
}

std::vector<std::int64_t> mixture_quotas(std::span<const double> weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<std::int64_t> quotas(weights.size());
  std::vector<double> remainders(weights.size());
  std::vector<std::size_t> order(weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double share = weights[i] / sum * static_cast<double>(kMixtureBlock);
    quotas[i] = static_cast<std::int64_t>(std::floor(share));
    remainders[i] = share - std::floor(share);
    order[i] = i;
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return remainders[a] > remainders[b]; });
  std::int64_t left =
      kMixtureBlock - std::accumulate(quotas.begin(), quotas.end(), std::int64_t{0});
  for (std::size_t i = 0; left > 0; ++i, --left) ++quotas[order[i % order.size()]];
  return quotas;
}

MixtureSlot mixture_slot(std::int64_t index, std::span<const std::int64_t> quotas,
                         std::uint64_t seed) {
  if (quotas.size() == 1) return {0, index};
  const std::int64_t block = index / kMixtureBlock;
  char name[32];
  const auto end = fmt::format_to_n(name, sizeof name, "block/{}", block).out;
  const std::uint64_t key = key_from(seed, std::string_view(name, end));
  auto place = static_cast<std::int64_t>(permute(static_cast<std::uint64_t>(index % kMixtureBlock),
                                                 std::uint64_t{kMixtureBlock}, key));
  std::size_t component = 0;
  while (place >= quotas[component]) place -= quotas[component++];
  return {component, block * quotas[component] + place};
}

}  // namespace lockstep
