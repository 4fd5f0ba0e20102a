// Sums of squares of the flat gradient: one fp64 sum per work item, then one per segment, added in
// item order. fp64 cannot overflow on squares of fp32 values, so a sum is not finite exactly when
// an element is not.
#include "kernels/cpu/context.h"
#include "kernels/cpu/kernels.h"

namespace lockstep::cpu {
namespace {

double sum_of_squares(const float* x, std::int32_t count) {
  double sum = 0.0;
#pragma omp simd reduction(+ : sum)
  for (std::int32_t i = 0; i < count; ++i) {
    sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  }
  return sum;
}

}  // namespace

void grad_norm(const GradNormArgs& args, Stream& stream) {
  const auto* grads = static_cast<const float*>(args.grads.data);
  auto* sums = static_cast<double*>(args.sums.data);
  double* item_sums = context_of(stream).item_sums(args.item_count);
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t i = 0; i < args.item_count; ++i) {
    item_sums[i] = sum_of_squares(grads + args.items[i].begin, args.items[i].count);
  }
  for (std::int64_t i = 0; i < args.item_count; ++i) {
    const std::int32_t segment = args.items[i].segment;
    const bool first = i == 0 || args.items[i - 1].segment != segment;
    sums[segment] = first ? item_sums[i] : sums[segment] + item_sums[i];
  }
}

}  // namespace lockstep::cpu
