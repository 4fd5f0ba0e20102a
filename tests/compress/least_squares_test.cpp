// Damped normal equations: solutions that are known, and matrices that have none.
#include "compress/least_squares.h"

#include "support/support.h"

#include <cmath>

namespace lockstep {
namespace {

// A = B B^T of random B, and right-hand sides of known solutions.
TEST(LeastSquares, FindsWhatWasThere) {
  constexpr std::size_t n = 37, rows = 3;
  const std::vector<double> b = test::random_values(n * n, 1);
  const std::vector<double> x = test::random_values(rows * n, 2);
  std::vector<double> a(n * n, 0.0), rhs(rows * n, 0.0);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t k = 0; k < n; ++k) a[i * n + j] += b[i * n + k] * b[j * n + k];
    }
  }
  const std::vector<double> damping(n, 0.5);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < n; ++j) rhs[r * n + i] += a[i * n + j] * x[r * n + j];
      rhs[r * n + i] += damping[i] * x[r * n + i];
    }
  }
  ASSERT_TRUE(solve_damped(a, damping, rhs));
  for (std::size_t i = 0; i < rhs.size(); ++i) EXPECT_NEAR(rhs[i], x[i], 1e-10) << i;
}

TEST(LeastSquares, SaysWhenThereIsNoSolution) {
  std::vector<double> zeros(4, 0.0), rhs{1.0, 2.0};
  EXPECT_FALSE(solve_damped(zeros, std::vector<double>{0.0, 0.0}, rhs));
  EXPECT_EQ(rhs, (std::vector<double>{1.0, 2.0}));
  std::vector<double> broken{std::nan(""), 0.0, 0.0, 1.0};
  EXPECT_FALSE(solve_damped(broken, std::vector<double>{1.0, 1.0}, rhs));
}

}  // namespace
}  // namespace lockstep
