// The random numbers that runs and checkpoints depend on: known answers, distribution, permutation.
#include "core/rng.h"

#include "core/error.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

namespace lockstep {
namespace {

// The known-answer vectors that the authors of Philox publish with Random123.
TEST(Rng, PhiloxKnownAnswers) {
  EXPECT_EQ(philox(0, 0, 0),
            (std::array<std::uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox(~0ull, ~0ull, ~0ull),
            (std::array<std::uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox(0x299f31d0a4093822ull, 0x85a308d3243f6a88ull, 0x0370734413198a2eull),
            (std::array<std::uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Rng, QuantilesAreThoseOfTheNormal) {
  // Phi(q) = p, by the complementary error function of the C library.
  for (const double p : {1e-300, 1e-16, 1e-8, 1e-3, 0.07, 0.075, 0.3, 0.5, 0.8, 0.999}) {
    const double q = normal_quantile(p);
    EXPECT_NEAR(0.5 * std::erfc(-q / std::sqrt(2.0)) / p, 1.0, 1e-11) << p;
  }
  EXPECT_EQ(normal_quantile(0.5), 0.0);
  EXPECT_EQ(normal_quantile(0.25), -normal_quantile(0.75));
}

TEST(Rng, NormalDrawsAreFunctionsOfKeyAndIndex) {
  std::vector<float> whole(1000), part(100);
  fill_normal(whole, key_from(1, "w"), 0, 2.0f);
  fill_normal(part, key_from(1, "w"), 400, 2.0f);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 400));
  EXPECT_NE(key_from(1, "w"), key_from(2, "w"));
  EXPECT_NE(key_from(1, "w"), key_from(1, "v"));
}

TEST(Rng, UniformStaysBelowOne) {
  double sum = 0.0;
  for (std::uint64_t i = 0; i < 10000; ++i) {
    const double u = uniform(9, i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 5.0 / std::sqrt(12.0 * 10000));  // five standard errors
}

TEST(Rng, PermutationIsABijectionAtEverySize) {
  for (const std::uint64_t n : {1ull, 2ull, 3ull, 5ull, 64ull, 1000ull, 4097ull}) {
    std::set<std::uint64_t> seen;
    for (std::uint64_t i = 0; i < n; ++i) {
      const std::uint64_t to = permute(i, n, 77);
      ASSERT_LT(to, n);
      seen.insert(to);
    }
    EXPECT_EQ(seen.size(), n);
  }
  EXPECT_THROW(permute(5, 5, 1), CheckError);
  // Far beyond memory: one evaluation costs the same.
  EXPECT_LT(permute(123456789012345ull, 1000000000000000ull, 3), 1000000000000000ull);
}

}  // namespace
}  // namespace lockstep
