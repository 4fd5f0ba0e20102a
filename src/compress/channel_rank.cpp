// Scores are fp64 sums in a fixed order.
#include "compress/channel_rank.h"

#include "core/error.h"
#include "core/rng.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace lockstep {
namespace {

// Sums of f(w) over each channel's column of `out`.
template <typename F>
std::vector<double> column_sums(std::span<const float> out, std::size_t channels, F f) {
  std::vector<double> sums(channels, 0.0);
  for (std::size_t i = 0; i < out.size(); ++i) sums[i % channels] += f(out[i]);
  return sums;
}

template <typename F>
std::vector<double> magnitudes(const ChannelView& view, F f) {
  const std::size_t channels = view.squares.size();
  std::vector<double> sums = column_sums(view.out, channels, f);
  for (const std::vector<float>& rows : view.rows) {
    const std::size_t width = rows.size() / channels;
    for (std::size_t i = 0; i < rows.size(); ++i) sums[i / width] += f(rows[i]);
  }
  return sums;
}

double square(float value) { return static_cast<double>(value) * value; }

}  // namespace

std::vector<double> channel_scores(const std::string& rank, const ChannelView& view) {
  const std::size_t channels = view.squares.size();
  if (rank == "l1") return magnitudes(view, [](float w) { return std::fabs(double{w}); });
  if (rank == "l2") return magnitudes(view, square);
  std::vector<double> scores(channels);
  if (rank == "random") {
    for (std::size_t c = 0; c < channels; ++c) scores[c] = uniform(view.key, c);
    return scores;
  }
  CHECK(rank == "wanda", "ranking {}", rank);
  const std::vector<double> columns = column_sums(view.out, channels, square);
  for (std::size_t c = 0; c < channels; ++c) scores[c] = std::sqrt(view.squares[c] * columns[c]);
  return scores;
}

std::vector<std::size_t> best_channels(std::span<const double> scores, std::size_t count) {
  CHECK(count <= scores.size(), "{} of {} channels", count, scores.size());
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  order.resize(count);
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace lockstep
