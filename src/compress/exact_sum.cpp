// The scale leaves room for the bound and for rounding.
#include "compress/exact_sum.h"

#include "core/error.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace lockstep {

ExactSum::ExactSum(std::size_t count, double bound) : sums_(count, 0) {
  CHECK(bound >= 0.0 && std::isfinite(bound), "a bound of {}", bound);
  int exponent = 0;
  std::frexp(bound, &exponent);         // bound < 2^exponent
  exponent = std::max(exponent, -900);  // the scale itself stays finite
  scale_ = std::ldexp(1.0, 61 - exponent);
}

void ExactSum::add(std::span<const float> values) {
  CHECK(values.size() == sums_.size(), "{} of {} values", values.size(), sums_.size());
  for (std::size_t i = 0; i < values.size(); ++i) sums_[i] += std::llrint(values[i] * scale_);
}

std::vector<double> ExactSum::total(World& world) {
  const std::vector<std::int64_t> all = world.all_reduce(std::move(sums_), ReduceOp::kSum);
  std::vector<double> total(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) total[i] = static_cast<double>(all[i]) / scale_;
  return total;
}

}  // namespace lockstep
