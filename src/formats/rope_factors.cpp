// The quotients of plain and scaled frequencies.
#include "formats/rope_factors.h"

#include "nn/rope_scaling.h"

namespace lockstep {

std::vector<float> rope_factors(const ModelConfig& config) {
  const auto kind = parse_rope_scaling(config.rope_scaling).kind;
  if (kind != RopeScaling::Kind::kLlama3) return {};
  ModelConfig plain = config;
  plain.rope_scaling.clear();
  const std::vector<float> scaled = rope_frequencies(config);
  std::vector<float> factors = rope_frequencies(plain);
  for (std::size_t i = 0; i < factors.size(); ++i) factors[i] /= scaled[i];
  return factors;
}

}  // namespace lockstep
