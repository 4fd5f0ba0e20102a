// Building blocks shared by the tensor-core attention kernels: a strided matrix of one head, its
// copy into a swizzled shared tile, products of register fragments with such tiles, and the way
// back from accumulators to device memory.
#pragma once

#include "core/error.h"
#include "kernels/cuda/attention_layout.cuh"
#include "kernels/cuda/attention_mma.cuh"

#include <cuda_runtime.h>

namespace lockstep::cuda {

inline constexpr int kWarpSize = 32;

// All heads of a tensor: row r of head h begins at data + r * stride + h * head_dim.
template <typename T>
struct HeadRows {
  T* data;
  std::int64_t stride;

  __device__ T* row(std::int64_t r, int head, int head_dim) const {
    return data + r * stride + static_cast<std::int64_t>(head) * head_dim;
  }
};

// Starts copying kRows rows of `width` elements into a tile of kChunks chunks per row; rows from
// rows_valid on and elements from width on become zeros. All kThreads threads take part.
template <int kRows, int kChunks, int kThreads, typename T>
__device__ __forceinline__ void load_tile(std::uint32_t tile, const T* first_row,
                                          std::int64_t stride, int rows_valid, int width) {
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int begin = 0; begin < kRows * kChunks; begin += kThreads) {
    const int row = (begin + thread) / kChunks;
    const int chunk = (begin + thread) % kChunks;
    const bool valid = row < rows_valid && chunk * 8 < width;
    const T* from = first_row + row * stride + chunk * 8;
    if (kRows * kChunks % kThreads == 0 || row < kRows) {
      copy_async_16(tile + TileLayout<kChunks>::offset({row, chunk}), valid ? from : first_row,
                    valid);
    }
  }
}

// acc += a b, with b's 16 rows k16 of a tile stored [n][k]. `lane` is the address of this lane's
// operand_b element in the part of the tile that begins at n = 0, k = 0.
template <typename T, int kChunks, int kM, int kN>
__device__ __forceinline__ void multiply_tile(float (&acc)[kM][kN][4],
                                              const std::uint32_t (&a)[kM][4], std::uint32_t lane,
                                              int k16) {
#pragma unroll
  for (int n = 0; n < kN; n += 2) {
    std::uint32_t b[4];
    load_matrices(b, TileLayout<kChunks>::moved(lane, 8 * n, 2 * k16));
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      multiply<T>(acc[m][n], a[m], b[0], b[1]);
      multiply<T>(acc[m][n + 1], a[m], b[2], b[3]);
    }
  }
}

// The same with a tile stored [k][n]; `lane` addresses operand_b_transposed.
template <typename T, int kChunks, int kM, int kN>
__device__ __forceinline__ void multiply_tile_transposed(float (&acc)[kM][kN][4],
                                                         const std::uint32_t (&a)[kM][4],
                                                         std::uint32_t lane, int k16) {
#pragma unroll
  for (int n = 0; n < kN; n += 2) {
    std::uint32_t b[4];
    load_matrices_transposed(b, TileLayout<kChunks>::moved(lane, 16 * k16, n));
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      multiply<T>(acc[m][n], a[m], b[0], b[1]);
      multiply<T>(acc[m][n + 1], a[m], b[2], b[3]);
    }
  }
}

// Rounds accumulators and arranges them as A operands of a product over their columns.
template <typename T, int kM, int kN>
__device__ __forceinline__ void pack_operand(std::uint32_t (&a)[kM][kN / 2][4],
                                             const float (&acc)[kM][kN][4]) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      a[m][n / 2][a_register(n, 0)] = pack<T>(acc[m][n][0], acc[m][n][1]);
      a[m][n / 2][a_register(n, 1)] = pack<T>(acc[m][n][2], acc[m][n][3]);
    }
  }
}

// Writes one warp's 16 * kM accumulator rows to device memory in whole chunks, by way of `staging`,
// as many rows of a shared tile that no other warp touches.
template <typename T, int kM, int kN>
__device__ __forceinline__ void store_rows(T* out, std::int64_t stride, int rows_valid, int width,
                                           const float (&acc)[kM][kN][4], std::uint32_t staging) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const std::uint32_t own = staging + TileLayout<kN>::offset({accumulator_row(lane, 0), 0}) +
                            accumulator_column(lane, 0) * sizeof(T);
  __syncwarp();
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        store_shared(TileLayout<kN>::moved(own, 16 * m + 8 * half, n),
                     pack<T>(acc[m][n][2 * half], acc[m][n][2 * half + 1]));
      }
    }
  }
  __syncwarp();
#pragma unroll
  for (int begin = 0; begin < 16 * kM * kN; begin += kWarpSize) {
    const int row = (begin + lane) / kN;
    const int chunk = (begin + lane) % kN;
    if (row < rows_valid && chunk * 8 < width) {
      *reinterpret_cast<uint4*>(out + row * stride + chunk * 8) =
          load_shared_chunk(staging + TileLayout<kN>::offset({row, chunk}));
    }
  }
}

}  // namespace lockstep::cuda
