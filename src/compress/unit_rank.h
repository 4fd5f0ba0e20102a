// Which units of a block matter (channels of a feed-forward network, heads): scores from weights
// and from what runs through them on calibration text. Legend: C hidden, K columns of the block's
// output map, U units, each of K / U columns.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lockstep {

// random: by seed and layer.
// l1, l2: sums of absolute values or squares of a unit's rows and columns.
// wanda:  norm of a column's activations times norm of its weights, both over all of a unit's
// columns
//         (Sun et al., arXiv 2306.11695, over whole units).
inline constexpr const char* kUnitRanks[] = {"wanda", "l1", "l2", "random"};

// What one block's ranking sees.
struct UnitView {
  std::size_t units = 0;
  std::vector<std::vector<float>> rows;  // of each parameter with rows per unit: (U * r, n)
  std::span<const float> out;            // (C, K)
  std::span<const double> squares;       // (K): sums of the squared activations
  std::uint64_t key = 0;                 // of the random ranking
};

// (U) scores under `rank`, one of kUnitRanks; higher is kept first.
std::vector<double> unit_scores(const std::string& rank, const UnitView& view);

// The `count` units of the highest scores, ascending; of equal scores the lower index.
std::vector<std::size_t> best_units(std::span<const double> scores, std::size_t count);

}  // namespace lockstep
