// ExactSum: a large array summed over chunks and ranks as 64-bit integers, so that neither the
// order nor the number of ranks changes a bit of it.
#pragma once

#include "comm/communicator.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lockstep {

class ExactSum {
 public:
  // No partial sum of any element exceeds `bound`, which every rank gives alike. Values are rounded
  // to multiples of about bound * 2^-61.
  ExactSum(std::size_t count, double bound);

  void add(std::span<const float> values);
  // The sums over all ranks, on every rank. Collective; ends the sum.
  std::vector<double> total(World& world);

 private:
  double scale_;  // a power of two
  std::vector<std::int64_t> sums_;
};

}  // namespace lockstep
