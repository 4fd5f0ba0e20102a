// Quotas are exact in every block, slots are a bijection, weights are parsed strictly.
#include "data/mixture.h"

#include "fixture.h"

#include <set>

namespace lockstep {
namespace {

using Quotas = std::vector<std::int64_t>;

Quotas quotas_of(const std::vector<double>& weights) { return mixture_quotas(weights); }

TEST(Mixture, QuotasByLargestRemainder) {
  EXPECT_EQ(quotas_of({1.0}), (Quotas{1000}));
  EXPECT_EQ(quotas_of({0.7, 0.3}), (Quotas{700, 300}));
  EXPECT_EQ(quotas_of({1, 1, 1}), (Quotas{334, 333, 333}));
  EXPECT_EQ(quotas_of({2, 3, 2}), (Quotas{286, 428, 286}));  // 285.71, 428.57, 285.71
  EXPECT_EQ(quotas_of({1e6, 1}), (Quotas{1000, 0}));
}

TEST(Mixture, QuotasAlwaysSumToTheBlock) {
  std::vector<double> weights;
  for (int i = 1; i < 40; ++i) {
    weights.push_back(0.1 * i);
    const Quotas quotas = quotas_of(weights);
    EXPECT_EQ(std::accumulate(quotas.begin(), quotas.end(), std::int64_t{0}), kMixtureBlock);
    for (std::size_t c = 0; c < quotas.size(); ++c) {
      const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
      EXPECT_LT(std::abs(static_cast<double>(quotas[c]) - 1000.0 * weights[c] / sum), 1.0);
    }
  }
}

TEST(Mixture, EveryBlockHoldsItsQuotasAndOrdinalsCountUp) {
  const Quotas quotas = {5, 700, 295};
  std::vector<std::set<std::int64_t>> seen(3);
  for (std::int64_t block = 0; block < 4; ++block) {
    Quotas counts(3);
    for (std::int64_t i = 0; i < kMixtureBlock; ++i) {
      const MixtureSlot slot = mixture_slot(block * kMixtureBlock + i, quotas, /*seed=*/9);
      ++counts[slot.component];
      EXPECT_GE(slot.ordinal, block * quotas[slot.component]);
      EXPECT_LT(slot.ordinal, (block + 1) * quotas[slot.component]);
      EXPECT_TRUE(seen[slot.component].insert(slot.ordinal).second);
    }
    EXPECT_EQ(counts, quotas);
  }
}

TEST(Mixture, BlocksAndSeedsDifferInOrder) {
  const Quotas quotas = {500, 500};
  const auto order = [&](std::int64_t block, std::uint64_t seed) {
    std::string components;
    for (std::int64_t i = 0; i < kMixtureBlock; ++i) {
      const auto slot = mixture_slot(block * kMixtureBlock + i, quotas, seed);
      components += static_cast<char>('0' + slot.component);
    }
    return components;
  };
  EXPECT_EQ(order(0, 1), order(0, 1));
  EXPECT_NE(order(0, 1), order(1, 1));
  EXPECT_NE(order(0, 1), order(0, 2));
}

TEST(Mixture, ParsesWeights) {
  EXPECT_EQ(parse_pattern("0.25:a/*.bin").weight, 0.25);
  EXPECT_EQ(parse_pattern("0.25:a/*.bin").path, "a/*.bin");
  EXPECT_EQ(parse_pattern("3:x:y").path, "x:y");
  for (const char* plain : {"a.bin", "dir:a.bin", ":a", "0.5x:a", ""}) {
    EXPECT_EQ(parse_pattern(plain).weight, 0.0);
    EXPECT_EQ(parse_pattern(plain).path, plain);
  }
  for (const char* bad : {"0:a", "-1:a", "inf:a", "nan:a"}) {
    test::expect_error(ExitCode::kConfig, {bad, "above 0"}, [&] { parse_pattern(bad); });
  }
}

}  // namespace
}  // namespace lockstep
