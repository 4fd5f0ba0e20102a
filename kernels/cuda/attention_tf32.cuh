// Causal attention of fp32 rows on tensor cores: what its kernels are made of. Operands are rounded
// to TF32 (10 bits of mantissa) once, as they arrive; sums are fp32.
// A warp owns 16 rows of an output and walks tiles of rows of two other matrices, which all warps
// of its block share. Lane l holds row l / 4 (and 8 below) and columns near l % 4 (PTX ISA,
// mma.m16n8k8).
#pragma once

#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_plain.cuh"

namespace lockstep::cuda::tf32 {

using Params = plain::Params<plain::Quads>;

constexpr int kWarpRows = 16;

// A row of a shared tile: 4 floats of padding keep all reads below free of bank conflicts.
template <int kD>
constexpr int kStride = kD + 4;

__device__ __forceinline__ int group_of_lane() { return static_cast<int>(threadIdx.x) % 32 / 4; }
__device__ __forceinline__ int place_in_group() { return static_cast<int>(threadIdx.x) % 4; }

__device__ __forceinline__ float rounded(float x) {
  std::uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return __uint_as_float(bits);
}

// d += a b for one 16 x 8 x 8 product.
__device__ __forceinline__ void multiply(float (&d)[4], const float (&a)[4], float b0, float b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
        "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b0)), "r"(__float_as_uint(b1)));
}

// Rows of one head in device memory: `valid` of them, `width` columns; all others read as zero.
struct Source {
  const float* rows;
  std::int64_t stride;
  int valid, width;
};

// Tiles of kRows rows of two matrices, two of each: one pair is computed on while the next arrives.
template <int kD, int kRows, int kThreads>
struct TilePairs {
  static constexpr int kTile = kRows * kStride<kD>;
  static constexpr int kBytes = 4 * kTile * static_cast<int>(sizeof(float));
  float* data;

  __device__ float* first(int i) const { return data + i % 2 * 2 * kTile; }
  __device__ float* second(int i) const { return first(i) + kTile; }

  // Starts the copy of pair i; all threads of the block take part.
  __device__ void start(int i, const Source& a, const Source& b) const {
    start_tile(first(i), a);
    start_tile(second(i), b);
    copy_async_commit();
  }
  // Waits for this thread's part of pair i and rounds it. A barrier comes next.
  __device__ void finish(int i) const {
    copy_async_wait<0>();
    for_each_quad([&](int row, int column) {
      for (float* tile : {first(i), second(i)}) {
        float4& quad = *reinterpret_cast<float4*>(tile + row * kStride<kD> + column);
        quad = make_float4(rounded(quad.x), rounded(quad.y), rounded(quad.z), rounded(quad.w));
      }
    });
  }

 private:
  template <typename Function>
  __device__ static void for_each_quad(const Function& function) {
#pragma unroll
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kD / 4; i += kThreads) {
      function(i / (kD / 4), i % (kD / 4) * 4);
    }
  }
  __device__ static void start_tile(float* tile, const Source& source) {
    for_each_quad([&](int row, int column) {
      const bool valid = row < source.valid && column < source.width;
      const float* from = source.rows + row * source.stride + column;
      copy_async_16(shared_address(tile + row * kStride<kD> + column), valid ? from : source.rows,
                    valid);
    });
  }
};

// The 16 rows that a warp multiplies with every tile, rounded: in registers, or in shared memory
// where both matrices of a backward kernel would be too many.
template <int kD, bool kHeld>
struct WarpRows {
  float held[kHeld ? kD / 8 : 1][4];
  float* lane = nullptr;

  // shared: kWarpRows * kStride floats of this warp's own, unused when held.
  __device__ void load(const Source& source, float scale, float* shared) {
    const int g = group_of_lane();
    const int t = place_in_group();
    lane = shared + g * kStride<kD> + t;
#pragma unroll
    for (int s = 0; s < kD / 8; ++s) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = g + i % 2 * 8;
        const int column = 8 * s + t + i / 2 * 4;
        const bool valid = row < source.valid && column < source.width;
        const float value =
            valid ? rounded(source.rows[row * source.stride + column] * scale) : 0.0f;
        if constexpr (kHeld) {
          held[s][i] = value;
        } else {
          lane[i % 2 * 8 * kStride<kD> + 8 * s + i / 2 * 4] = value;
        }
      }
    }
    __syncwarp();
  }
  __device__ void get(float (&a)[4], int s) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (kHeld) {
        a[i] = held[s][i];
      } else {
        a[i] = lane[i % 2 * 8 * kStride<kD> + 8 * s + i / 2 * 4];
      }
    }
  }
};

// product (16, 8 kN) = a b^T: the products of the warp's rows with a tile's.
template <int kD, bool kHeld, int kN>
__device__ __forceinline__ void multiply_rows(float (&product)[kN][4], const WarpRows<kD, kHeld>& a,
                                              const float* tile) {
  const float* b = tile + group_of_lane() * kStride<kD> + place_in_group();
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) product[n][i] = 0.0f;
  }
#pragma unroll
  for (int s = 0; s < kD / 8; ++s) {
    float rows[4];
    a.get(rows, s);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      const float* at = b + 8 * n * kStride<kD> + 8 * s;
      multiply(product[n], rows, at[0], at[4]);
    }
  }
}

// sum (16, kD) += w tile, with w (16, 8 kN) as products leave it. A lane holds columns 2t and 2t +
// 1 of w where an operand wants t and t + 4, so the tile's rows are taken in that order too.
template <int kD, int kN>
__device__ __forceinline__ void add_weighted(float (&sum)[kD / 8][4], const float (&w)[kN][4],
                                             const float* tile) {
  const float* b = tile + 2 * place_in_group() * kStride<kD> + group_of_lane();
#pragma unroll
  for (int n = 0; n < kN; ++n) {
    const float a[4] = {rounded(w[n][0]), rounded(w[n][2]), rounded(w[n][1]), rounded(w[n][3])};
#pragma unroll
    for (int d = 0; d < kD / 8; ++d) {
      const float* at = b + 8 * n * kStride<kD> + 8 * d;
      multiply(sum[d], a, at[0], at[kStride<kD>]);
    }
  }
}

// Rows g and g + 8 of the warp's 16, each times its factor.
template <int kD>
__device__ __forceinline__ void store_rows(float* out, std::int64_t stride, int valid, int width,
                                           const float (&sum)[kD / 8][4], float factor,
                                           float factor_below) {
  const int g = group_of_lane();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = g + 8 * half;
    const float scale = half == 0 ? factor : factor_below;
#pragma unroll
    for (int d = 0; d < kD / 8; ++d) {
      const int column = 8 * d + 2 * place_in_group();
      if (row < valid && column < width) {
        *reinterpret_cast<float2*>(out + row * stride + column) =
            make_float2(sum[d][2 * half] * scale, sum[d][2 * half + 1] * scale);
      }
    }
  }
}

// Rows [first, ...) of `head` of a sequence whose rows begin at `begin` and number `length`.
__device__ inline Source source_of(const plain::Rows<float>& x, std::int64_t begin, int first,
                                   int length, int head, const Params& p) {
  return {plain::head_row<plain::Quads>(x, begin + first, head, p), x.stride, length - first,
          p.head_dim};
}

}  // namespace lockstep::cuda::tf32
