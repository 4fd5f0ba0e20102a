// Scores are fp64 sums in a fixed order.
#include "compress/unit_rank.h"

#include "core/error.h"
#include "core/rng.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace lockstep {
namespace {

// Sums of f(w) over each column of `out`.
template <typename F>
std::vector<double> column_sums(std::span<const float> out, std::size_t columns, F f) {
  std::vector<double> sums(columns, 0.0);
  for (std::size_t i = 0; i < out.size(); ++i) sums[i % columns] += f(out[i]);
  return sums;
}

// Sums over each unit's equal share of the values.
template <typename T, typename F>
void add_per_unit(const std::vector<T>& values, std::vector<double>& sums, F f) {
  const std::size_t each = values.size() / sums.size();
  for (std::size_t i = 0; i < values.size(); ++i) sums[i / each] += f(values[i]);
}

double itself(double value) { return value; }
double magnitude(float value) { return std::fabs(double{value}); }
double square(float value) { return static_cast<double>(value) * value; }

template <typename F>
std::vector<double> magnitudes(const UnitView& view, F f) {
  std::vector<double> sums(view.units, 0.0);
  add_per_unit(column_sums(view.out, view.squares.size(), f), sums, itself);
  for (const std::vector<float>& rows : view.rows) add_per_unit(rows, sums, f);
  return sums;
}

}  // namespace

std::vector<double> unit_scores(const std::string& rank, const UnitView& view) {
  if (rank == "l1") return magnitudes(view, magnitude);
  if (rank == "l2") return magnitudes(view, square);
  std::vector<double> scores(view.units, 0.0);
  if (rank == "random") {
    for (std::size_t u = 0; u < scores.size(); ++u) scores[u] = uniform(view.key, u);
    return scores;
  }
  CHECK(rank == "wanda", "ranking {}", rank);
  std::vector<double> columns = column_sums(view.out, view.squares.size(), square);
  for (std::size_t c = 0; c < columns.size(); ++c) columns[c] *= view.squares[c];
  add_per_unit(columns, scores, itself);
  for (double& score : scores) score = std::sqrt(score);
  return scores;
}

std::vector<std::size_t> best_units(std::span<const double> scores, std::size_t count) {
  CHECK(count <= scores.size(), "{} of {} units", count, scores.size());
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  order.resize(count);
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace lockstep
