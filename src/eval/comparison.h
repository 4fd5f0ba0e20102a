// The sums that a Comparison of two models on the same tokens is made of. Differences are taken
// token by token, so that what both models find hard does not count; their 95 % bounds take a
// sequence's tokens as one observation, since neighbours go wrong together (cluster-robust standard
// errors, Liang & Zeger 1986).
#pragma once

#include "comm/communicator.h"
#include "nn/evaluation.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lockstep {

// What one target adds.
struct ComparedToken {
  float loss = 0.0f, reference_loss = 0.0f;
  float divergence = 0.0f;
  bool right = false, reference_right = false, same_top = false;
};

// The sums of one micro-batch.
class ComparisonSums {
 public:
  static constexpr std::size_t kNumbers = 15;

  // The targets that count of one sequence; none: it is no observation.
  void add_sequence(std::span<const ComparedToken> tokens);
  std::span<const double> numbers() const { return numbers_; }

 private:
  std::vector<double> numbers_ = std::vector<double>(kNumbers);
};

// How many targets diverge how much, to 0.4 %.
class DivergenceCounts {
 public:
  void add(float divergence);
  // Collective.
  void sum_over(World& world);
  // The least value that at least `share` of the counted do not exceed.
  double quantile(double share) const;

 private:
  std::vector<std::int64_t> counts_ = std::vector<std::int64_t>(1 << 16);
};

// From the sums of all micro-batches and all ranks' counts; at least one target.
Comparison conclude(std::span<const double> sums, const DivergenceCounts& counts);

}  // namespace lockstep
