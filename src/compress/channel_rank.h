// Which channels of a feed-forward network matter: scores from weights and from what runs through
// them on calibration text. Legend: C hidden, F channels.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lockstep {

// random: by seed and layer.
// l1, l2: sums of absolute values or squares of a channel's rows and column.
// wanda:  norm of the channel's activations times norm of its column (Sun et al., arXiv 2306.11695,
//         over whole channels).
inline constexpr const char* kChannelRanks[] = {"wanda", "l1", "l2", "random"};

// What one layer's ranking sees.
struct ChannelView {
  std::vector<std::vector<float>> rows;  // of each parameter with a row per channel: (F, n)
  std::span<const float> out;            // (C, F)
  std::span<const double> squares;       // (F): sums of the squared activations
  std::uint64_t key = 0;                 // of the random ranking
};

// (F) scores under `rank`, one of kChannelRanks; higher is kept first.
std::vector<double> channel_scores(const std::string& rank, const ChannelView& view);

// The `count` channels of the highest scores, ascending; of equal scores the lower index.
std::vector<std::size_t> best_channels(std::span<const double> scores, std::size_t count);

}  // namespace lockstep
