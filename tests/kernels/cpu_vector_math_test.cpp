// The vectorisable exponential, sigmoid and GELU against libm in float64, over a dense grid: the
// bounds are those derived in kernels/cpu/vector_math.h.
#include "kernels/cpu/vector_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>

namespace lockstep::cpu {
namespace {

template <typename Function>
void on_grid(float low, float high, const Function& function) {
  constexpr int kSteps = 1 << 20;
  for (int i = 0; i <= kSteps; ++i) {
    function(low + (high - low) * (static_cast<float>(i) / static_cast<float>(kSteps)));
  }
}

TEST(FastExp, IsWithinThreeRoundings) {
  double worst = 0.0;
  const auto measure = [&](float x) {
    const double exact = std::exp(double{x});
    worst = std::max(worst, std::abs(double{fast_exp(x)} - exact) / exact);
  };
  on_grid(-87.3f, 88.0f, measure);
  on_grid(-1.0f, 1.0f, measure);
  EXPECT_LE(worst, 3.0 * 0x1p-24);
}

TEST(FastExp, Edges) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(fast_exp(0.0f), 1.0f);
  EXPECT_EQ(fast_exp(-87.5f), 0.0f);
  EXPECT_EQ(fast_exp(-kInfinity), 0.0f);
  EXPECT_EQ(fast_exp(89.0f), kInfinity);
  EXPECT_EQ(fast_exp(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(fast_exp(std::numeric_limits<float>::quiet_NaN())));
}

double exact_gelu(double x) {
  const double w = std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1.0 + std::tanh(w));
}

// w is rounded 4 times and the exponential turns that into 8 |w| 2^-24 of the sigmoid's distance
// from 0 or 1, which falls as exp(-2 |w|): at most 3 roundings of a value near 1. With the
// exponential's own 3 and the remaining products, values take under 16 of their own size (or one of
// 1 where they vanish), and the derivative, at most 1.13, under 12.
TEST(Gelu, ValueAndDerivative) {
  on_grid(-20.0f, 20.0f, [](float x) {
    const double exact = exact_gelu(double{x});
    ASSERT_NEAR(double{gelu(x)}, exact, 0x1p-24 * (1.0 + 16.0 * std::abs(exact))) << x;
    const double slope = (exact_gelu(double{x} + 1e-5) - exact_gelu(double{x} - 1e-5)) / 2e-5;
    ASSERT_NEAR(double{gelu_derivative(x)}, slope, 12.0 * 0x1p-24) << x;
  });
}

TEST(Sigmoid, IsWithinAFewRoundings) {
  on_grid(-40.0f, 40.0f, [](float x) {
    const double exact = 1.0 / (1.0 + std::exp(-double{x}));
    ASSERT_NEAR(double{sigmoid(x)}, exact, 5.0 * 0x1p-24 * exact) << x;
  });
}

}  // namespace
}  // namespace lockstep::cpu
