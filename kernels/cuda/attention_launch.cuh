// Host side of the attention kernels: argument checks, the choice of a padded head dimension, and
// launches that raise the shared-memory limit when a kernel needs more than the default 48 KiB.
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

// Rows of 16-byte chunks: what the vectorized kernels read and write.
inline void check_rows(const Tensor& x, const char* name) {
  const auto step = static_cast<std::int64_t>(16 / size_of(x.dtype));
  CHECK(x.data != nullptr, "attention: {} is absent", name);
  CHECK(reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 && x.row_stride % step == 0,
        "attention: rows of {} are not aligned to 16 bytes (row stride {})", name, x.row_stride);
}

inline void check_shape(const AttentionShape& s) {
  constexpr std::int64_t kMaxGrid = 65535;
  constexpr std::int64_t kMaxRows = 1 << 24;
  CHECK(s.head_dim >= 8 && s.head_dim <= 128 && s.head_dim % 8 == 0, "head_dim {}", s.head_dim);
  CHECK(s.kv_heads > 0 && s.heads % s.kv_heads == 0, "{} heads, {} kv heads", s.heads, s.kv_heads);
  CHECK(s.q_offset >= 0 && s.q_len > 0 && s.q_offset + s.q_len <= s.kv_len, "{} + {} > {}",
        s.q_offset, s.q_len, s.kv_len);
  CHECK(s.kv_len <= s.kv_rows && s.kv_rows <= kMaxRows, "{} of {} rows", s.kv_len, s.kv_rows);
  CHECK(s.batch > 0 && s.batch <= kMaxGrid && s.heads <= kMaxGrid, "{} x {}", s.batch, s.heads);
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
