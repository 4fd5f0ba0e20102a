// Host side of the attention kernels: the choice of a padded head dimension, and launches that
// raise the shared-memory limit when a kernel needs more than the default 48 KiB.
#pragma once

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/check.cuh"

#include <cuda_runtime.h>

#include <utility>

namespace lockstep::cuda {

template <typename... Params, typename... Args>
void launch_attention(void (*kernel)(Params...), dim3 grid, int threads, std::size_t shared_bytes,
                      Stream& stream, Args&&... args) {
  if (shared_bytes > 48 * 1024) {
    check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                               cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          "attention: this GPU lacks the shared memory per block that the kernel needs");
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream.native());
  check(cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...),
        "attention kernel launch");
}

// Calls f with the smallest instantiated head dimension that holds head_dim, as a constant.
template <typename F>
auto with_padded_head_dim(std::int64_t head_dim, F&& f) {
  if (head_dim <= 32) return f(std::integral_constant<int, 32>{});
  if (head_dim <= 64) return f(std::integral_constant<int, 64>{});
  if (head_dim <= 96) return f(std::integral_constant<int, 96>{});
  return f(std::integral_constant<int, 128>{});
}

}  // namespace lockstep::cuda
