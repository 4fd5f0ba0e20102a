// Sums of powers up to two per sequence, from which means and their errors follow.
#include "eval/comparison.h"

#include "core/error.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace lockstep {
namespace {

// Where numbers() has what. For each of three differences: the sum over sequences of its square,
// and of its product with the sequence's number of targets.
enum : std::size_t {
  kTokens,
  kLoss,
  kReferenceLoss,
  kRight,
  kReferenceRight,
  kSameTop,
  kDivergence,
  kSequences,
  kTokensSquared,
  kLossSquares,
  kAccuracySquares = kLossSquares + 2,
  kDivergenceSquares = kAccuracySquares + 2,
  kEnd = kDivergenceSquares + 2
};
static_assert(kEnd == ComparisonSums::kNumbers);

constexpr double kTwoSided95 = 1.959964;

// The mean of a difference over all targets, whose sum is `sum`; its variance is that of the
// sequences' sums around what the mean gives them.
Estimate estimate(std::span<const double> sums, double sum, std::size_t squares) {
  const double tokens = sums[kTokens];
  const double sequences = sums[kSequences];
  const double mean = sum / tokens;
  if (sequences < 2.0) return {mean, std::numeric_limits<double>::quiet_NaN()};
  const double spread =
      sums[squares] - 2.0 * mean * sums[squares + 1] + mean * mean * sums[kTokensSquared];
  const double variance = std::max(spread, 0.0) * sequences / (sequences - 1.0);
  return {mean, kTwoSided95 * std::sqrt(variance) / tokens};
}

// The upper half of a float's bits, whose order is that of positive floats. What is not a number
// counts as 0: whoever judges such a model finds that its loss is none either.
std::size_t bin_of(float divergence) {
  return std::bit_cast<std::uint32_t>(divergence > 0.0f ? divergence : 0.0f) >> 15;
}

}  // namespace

void ComparisonSums::add_sequence(std::span<const ComparedToken> tokens) {
  if (tokens.empty()) return;
  double loss = 0.0, accuracy = 0.0, divergence = 0.0;
  for (const ComparedToken& token : tokens) {
    numbers_[kLoss] += static_cast<double>(token.loss);
    numbers_[kReferenceLoss] += static_cast<double>(token.reference_loss);
    numbers_[kRight] += token.right ? 1.0 : 0.0;
    numbers_[kReferenceRight] += token.reference_right ? 1.0 : 0.0;
    numbers_[kSameTop] += token.same_top ? 1.0 : 0.0;
    loss += static_cast<double>(token.loss) - static_cast<double>(token.reference_loss);
    accuracy += (token.right ? 1.0 : 0.0) - (token.reference_right ? 1.0 : 0.0);
    divergence += static_cast<double>(token.divergence);
  }
  const auto count = static_cast<double>(tokens.size());
  numbers_[kTokens] += count;
  numbers_[kDivergence] += divergence;
  numbers_[kSequences] += 1.0;
  numbers_[kTokensSquared] += count * count;
  const auto add_squares = [&](std::size_t squares, double sum) {
    numbers_[squares] += sum * sum;
    numbers_[squares + 1] += sum * count;
  };
  add_squares(kLossSquares, loss);
  add_squares(kAccuracySquares, accuracy);
  add_squares(kDivergenceSquares, divergence);
}

void DivergenceCounts::add(float divergence) { ++counts_[bin_of(divergence)]; }

void DivergenceCounts::sum_over(World& world) {
  counts_ = world.all_reduce(std::move(counts_), ReduceOp::kSum);
}

double DivergenceCounts::quantile(double share) const {
  std::int64_t total = 0;
  for (const std::int64_t count : counts_) total += count;
  const auto wanted = static_cast<std::int64_t>(std::ceil(share * static_cast<double>(total)));
  std::size_t bin = 0;
  for (std::int64_t seen = counts_[0]; seen < wanted && bin + 1 < counts_.size();) {
    seen += counts_[++bin];
  }
  const auto last = static_cast<std::uint32_t>(bin) << 15 | (bin == 0 ? 0u : 0x7fffu);
  return static_cast<double>(std::bit_cast<float>(last));
}

Comparison conclude(std::span<const double> sums, const DivergenceCounts& counts) {
  CHECK(sums.size() == ComparisonSums::kNumbers && sums[kTokens] > 0.0,
        "a comparison of {} numbers", sums.size());
  const double tokens = sums[kTokens];
  const auto count = static_cast<std::int64_t>(tokens);
  Comparison result;
  result.model = {sums[kLoss] / tokens, sums[kRight] / tokens, count};
  result.reference = {sums[kReferenceLoss] / tokens, sums[kReferenceRight] / tokens, count};
  result.loss_change = estimate(sums, sums[kLoss] - sums[kReferenceLoss], kLossSquares);
  result.accuracy_change = estimate(sums, sums[kRight] - sums[kReferenceRight], kAccuracySquares);
  result.divergence = estimate(sums, sums[kDivergence], kDivergenceSquares);
  result.divergence_999 = counts.quantile(0.999);
  result.same_top = sums[kSameTop] / tokens;
  return result;
}

}  // namespace lockstep
