// Sums and maxima over a warp or a group of warps. The order of additions depends on the shape of
// the group alone, so results are the same in every run.
#pragma once

#include <cuda_runtime.h>

namespace lockstep::cuda {

inline constexpr unsigned kFullWarp = 0xffffffffu;

// Every lane gets the sum.
template <typename T>
__device__ inline T warp_sum(T x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(kFullWarp, x, offset);
  return x;
}

__device__ inline float2 operator+(float2 a, float2 b) { return {a.x + b.x, a.y + b.y}; }
__device__ inline float2 warp_sum(float2 x) { return {warp_sum(x.x), warp_sum(x.y)}; }

__device__ inline float warp_max(float x) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, offset));
  }
  return x;
}

// Every thread of a group of kThreads consecutive threads gets the group's sum. `shared` has one
// element per warp of the block and must not be touched by others until the next barrier after the
// call: alternate two buffers, or put a barrier between two calls. All threads of the block call.
template <int kThreads, typename T>
__device__ inline T group_sum(T x, T* shared) {
  x = warp_sum(x);
  if constexpr (kThreads > 32) {
    constexpr int kWarps = kThreads / 32;
    const int warp = static_cast<int>(threadIdx.x) / 32;
    if (threadIdx.x % 32 == 0) shared[warp] = x;
    __syncthreads();
    const int first = warp / kWarps * kWarps;
    x = T{};
#pragma unroll
    for (int i = 0; i < kWarps; ++i) x = x + shared[first + i];
  }
  return x;
}

}  // namespace lockstep::cuda
