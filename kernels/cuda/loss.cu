// loss_totals: adds a micro-batch's loss sum, valid targets and correct predictions to the step's
// totals in fp64. One block, so the order of additions never changes.
#include "kernels/cuda/check.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 1024;

// Formula: totals += (sum losses[r], number of targets[r] >= 0, sum correct[r]); masked rows hold
// loss 0 and correct 0. Block: 1024 threads, rows by stride. Grid: 1. Bytes: 8 or 9 per row.
__global__ __launch_bounds__(kThreads) void loss_totals_kernel(double* totals, const float* losses,
                                                               const std::uint8_t* correct,
                                                               const std::int32_t* targets,
                                                               std::int64_t count) {
  __shared__ double loss_shared[kThreads / 32];
  __shared__ int valid_shared[kThreads / 32];
  __shared__ int correct_shared[kThreads / 32];
  double loss = 0.0;
  int valid = 0;
  int hits = 0;
#pragma unroll 8
  for (std::int64_t r = threadIdx.x; r < count; r += kThreads) {
    loss += static_cast<double>(losses[r]);
    valid += targets[r] >= 0 ? 1 : 0;
    if (correct != nullptr) hits += correct[r];
  }
  loss = group_sum<kThreads>(loss, loss_shared);
  valid = group_sum<kThreads>(valid, valid_shared);
  hits = group_sum<kThreads>(hits, correct_shared);
  if (threadIdx.x != 0) return;
  totals[0] += loss;
  totals[1] += static_cast<double>(valid);
  if (correct != nullptr) totals[2] += static_cast<double>(hits);
}

}  // namespace

void loss_totals(const LossTotals& args, Stream& stream) {
  loss_totals_kernel<<<1, kThreads, 0, native(stream)>>>(
      data_of<double>(args.totals), data_of<const float>(args.losses),
      data_of<const std::uint8_t>(args.correct), data_of<const std::int32_t>(args.targets),
      args.losses.count());
  check_launch("loss_totals");
}

}  // namespace lockstep::cuda
