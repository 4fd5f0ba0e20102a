// Two models on the same tokens: what the sums say of a difference, its bounds against a
// simulation of clustered tokens, and quantiles.
#include "eval/comparison.h"

#include "support/support.h"

#include <algorithm>
#include <cmath>

namespace lockstep {
namespace {

Comparison of(const std::vector<std::vector<ComparedToken>>& sequences) {
  ComparisonSums sums;
  DivergenceCounts counts;
  for (const auto& sequence : sequences) {
    sums.add_sequence(sequence);
    for (const ComparedToken& token : sequence) counts.add(token.divergence);
  }
  return conclude(sums.numbers(), counts);
}

TEST(Comparison, MeansAreOverTokens) {
  const Comparison c =
      of({{{.loss = 2.0f, .reference_loss = 1.0f, .divergence = 0.5f, .right = true}},
          {{.loss = 1.0f, .reference_loss = 1.0f, .reference_right = true, .same_top = true},
           {.loss = 4.0f, .reference_loss = 2.0f, .right = true}}});
  EXPECT_EQ(c.model.tokens, 3);
  EXPECT_DOUBLE_EQ(c.model.loss, 7.0 / 3.0);
  EXPECT_DOUBLE_EQ(c.reference.loss, 4.0 / 3.0);
  EXPECT_DOUBLE_EQ(c.loss_change.value, 1.0);
  EXPECT_DOUBLE_EQ(c.perplexity_ratio(), std::exp(1.0));
  EXPECT_DOUBLE_EQ(c.accuracy_change.value, 1.0 / 3.0);
  EXPECT_DOUBLE_EQ(c.divergence.value, 0.5 / 3.0);
  EXPECT_DOUBLE_EQ(c.same_top, 1.0 / 3.0);
  // Sequences of one and two tokens whose differences sum to 1 and 2, as the mean expects: nothing
  // is left to spread. One sequence alone has no bounds.
  EXPECT_NEAR(c.loss_change.within, 0.0, 1e-12);
  EXPECT_TRUE(std::isnan(of({{{.loss = 1.0f}}}).loss_change.within));
}

// Tokens of a sequence share a part of their difference: bounds that take tokens one by one would
// hold the truth far too seldom.
TEST(Comparison, BoundsHoldTheTruthNineteenTimesInTwenty) {
  constexpr int kTrials = 400, kSequences = 60, kTokens = 20;
  constexpr float kTruth = 0.1f;
  int held = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    const std::vector<double> draws =
        test::random_values(kSequences * (kTokens + 1), 100 + static_cast<std::uint64_t>(trial));
    std::vector<std::vector<ComparedToken>> sequences(kSequences);
    std::size_t next = 0;
    for (auto& sequence : sequences) {
      const auto shared = static_cast<float>(draws[next++]);
      for (int t = 0; t < kTokens; ++t) {
        const float noise = static_cast<float>(draws[next++]);
        sequence.push_back({.loss = kTruth + shared + noise});
      }
    }
    const Estimate change = of(sequences).loss_change;
    if (change.low() <= kTruth && kTruth <= change.high()) ++held;
  }
  EXPECT_GE(held, kTrials * 91 / 100);
  EXPECT_LE(held, kTrials * 99 / 100);
}

TEST(DivergenceCounts, QuantilesAreWithinTheirBins) {
  DivergenceCounts counts;
  std::vector<float> values;
  for (int i = 0; i < 5000; ++i) {
    values.push_back(std::exp(static_cast<float>(i % 997) / 80.0f - 10.0f));
    counts.add(values.back());
  }
  std::sort(values.begin(), values.end());
  for (const double share : {0.5, 0.9, 0.999}) {
    const float exact =
        values[static_cast<std::size_t>(std::ceil(share * static_cast<double>(values.size()))) - 1];
    EXPECT_GE(counts.quantile(share), static_cast<double>(exact));
    EXPECT_LE(counts.quantile(share), static_cast<double>(exact) * 1.004);
  }
  DivergenceCounts none;
  for (const float no_divergence : {-1e-9f, std::nanf(""), -std::nanf("")}) none.add(no_divergence);
  EXPECT_EQ(none.quantile(0.999), 0.0);
}

}  // namespace
}  // namespace lockstep
