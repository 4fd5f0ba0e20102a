// Cholesky: A = L L^T, then two triangular solves per right-hand side. Rows are contiguous in all
// inner loops; sums run over eight lanes in a fixed order.
#include "compress/least_squares.h"

#include "core/error.h"

#include <array>
#include <cmath>

namespace lockstep {
namespace {

double dot(const double* a, const double* b, std::size_t n) {
  constexpr std::size_t kLanes = 8;
  std::array<double, kLanes> sums{};
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  for (std::size_t lane = 0; i < n; ++i, ++lane) sums[lane] += a[i] * b[i];
  double sum = 0.0;
  for (const double lane : sums) sum += lane;
  return sum;
}

bool factorize(std::vector<double>& a, std::size_t n) {
  for (std::size_t j = 0; j < n; ++j) {
    double* row_j = a.data() + j * n;
    const double pivot = row_j[j] - dot(row_j, row_j, j);
    if (!(pivot > 0.0) || !std::isfinite(pivot)) return false;
    row_j[j] = std::sqrt(pivot);
    for (std::size_t i = j + 1; i < n; ++i) {
      double* row_i = a.data() + i * n;
      row_i[j] = (row_i[j] - dot(row_i, row_j, j)) / row_j[j];
    }
  }
  return true;
}

// x becomes L^-T L^-1 x; the second solve walks L by rows, too.
void solve(const std::vector<double>& l, double* x, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    x[i] = (x[i] - dot(l.data() + i * n, x, i)) / l[i * n + i];
  }
  for (std::size_t i = n; i-- > 0;) {
    const double* row = l.data() + i * n;
    x[i] /= row[i];
    for (std::size_t k = 0; k < i; ++k) x[k] -= row[k] * x[i];
  }
}

}  // namespace

bool solve_damped(std::vector<double>& a, std::span<const double> damping,
                  std::vector<double>& rhs) {
  const std::size_t n = damping.size();
  CHECK(a.size() == n * n && n > 0 && rhs.size() % n == 0, "{} x {} and {}", a.size(), n,
        rhs.size());
  for (std::size_t i = 0; i < n; ++i) a[i * n + i] += damping[i];
  if (!factorize(a, n)) return false;
  for (std::size_t at = 0; at < rhs.size(); at += n) solve(a, rhs.data() + at, n);
  return true;
}

}  // namespace lockstep
