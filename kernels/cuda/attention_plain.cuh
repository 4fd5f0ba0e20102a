// Causal attention in plain fp32 arithmetic (FFMA, no TF32), tiled through shared memory: what its
// forward and backward kernels are made of. They take any storage type, head size, alignment and
// document starts, or, in their quick form, fp32 rows on 16 bytes without document starts.
// All blocks are 16 x 16 threads: thread (x, y) owns a few rows near y and columns near x. Head
// sizes above 128 halve all tiles.
#pragma once

#include "kernels/cuda/attention_launch.cuh"
#include "kernels/cuda/attention_layout.cuh"
#include "kernels/cuda/vec.cuh"

#include <cmath>

namespace lockstep::cuda::plain {

constexpr int kSide = 16;  // the block is kSide x kSide threads
constexpr int kThreads = kSide * kSide;

// How rows are stored and read: fp32 in whole float4 without documents, or element by element.
struct Quads {
  using T = float;
  static constexpr bool kQuads = true;
};
template <typename Stored>
struct Elements {
  using T = Stored;
  static constexpr bool kQuads = false;
};

// Rows of a tile. Keys per forward tile; keys and queries per backward tile.
template <int kD>
struct TileOf {
  static constexpr int kRows = kD <= 128 ? 32 : 16;
  static constexpr int kForwardRows = 2 * kRows;
  static constexpr int kStride = kRows + 4;
};

// All heads of a tensor: row r of head h begins at data + r * stride + h * head_dim.
template <typename T>
struct Rows {
  T* data;
  std::int64_t stride;
};

template <typename Access>
struct Params {
  using T = typename Access::T;
  Rows<T> out, dout, q, k, v, dq, dk, dv;
  float* lse;                  // (B, H, q_len), or null
  float* delta;                // (B, H, q_len)
  const std::int32_t* starts;  // (B, q_len): the first key that a query sees; null: 0
  int q_len, kv_len, kv_rows, q_offset;
  int heads, heads_per_kv, head_dim;
  float scale;

  // Of row `query` of sequence `batch`; rows beyond the sequence see all.
  __device__ int start_of(int batch, int query) const {
    if (Access::kQuads || starts == nullptr || query >= q_len) return 0;
    return max(starts[static_cast<std::int64_t>(batch) * q_len + query], 0);
  }
};

template <typename Access>
__device__ typename Access::T* head_row(const Rows<typename Access::T>& x, std::int64_t row,
                                        int head, const Params<Access>& p) {
  return x.data + row * x.stride + static_cast<std::int64_t>(head) * p.head_dim;
}

// A tile of rows padded to kD + 4 floats, so that a column of float4 is free of bank conflicts.
template <typename Access, int kD>
struct SharedRows {
  using T = typename Access::T;
  static constexpr int kStride = kD + 4;
  float* data;

  __device__ float4 quad(int row, int column) const {
    return *reinterpret_cast<const float4*>(data + row * kStride + column);
  }
  __device__ float2 pair(int row, int column) const {
    return *reinterpret_cast<const float2*>(data + row * kStride + column);
  }
  // Copies kRows rows; rows from rows_valid on and columns from width on become zero.
  template <int kRows>
  __device__ void load(const T* from, std::int64_t stride, int rows_valid, int width) {
    if constexpr (Access::kQuads) {
      load_quads<kRows>(from, stride, rows_valid, width);
    } else {
      for (int i = static_cast<int>(threadIdx.x); i < kRows * kD; i += kThreads) {
        const int row = i / kD;
        const int column = i % kD;
        const bool inside = row < rows_valid && column < width;
        data[row * kStride + column] = inside ? widen(from[row * stride + column]) : 0.0f;
      }
    }
  }
  template <int kRows>
  __device__ void load_quads(const float* from, std::int64_t stride, int rows_valid, int width) {
    for (int i = static_cast<int>(threadIdx.x); i < kRows * kD / 4; i += kThreads) {
      const int row = i / (kD / 4);
      const int column = i % (kD / 4) * 4;
      float4 value = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
      if (row < rows_valid && column < width) {
        value = *reinterpret_cast<const float4*>(from + row * stride + column);
      }
      *reinterpret_cast<float4*>(data + row * kStride + column) = value;
    }
  }
};

// product[i][j] = <a row (kI * y + i), b row (x + 16 j)>.
template <typename Access, int kD, int kI, int kJ>
__device__ void dot_rows(float (&product)[kI][kJ], SharedRows<Access, kD> a,
                         SharedRows<Access, kD> b, int x, int y) {
#pragma unroll
  for (int i = 0; i < kI; ++i) {
#pragma unroll
    for (int j = 0; j < kJ; ++j) product[i][j] = 0.0f;
  }
#pragma unroll 4
  for (int d = 0; d < kD; d += 4) {
    float4 b4[kJ];
#pragma unroll
    for (int j = 0; j < kJ; ++j) b4[j] = b.quad(x + kSide * j, d);
#pragma unroll
    for (int i = 0; i < kI; ++i) {
      const float4 a4 = a.quad(kI * y + i, d);
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        product[i][j] = fmaf(a4.x, b4[j].x, product[i][j]);
        product[i][j] = fmaf(a4.y, b4[j].y, product[i][j]);
        product[i][j] = fmaf(a4.z, b4[j].z, product[i][j]);
        product[i][j] = fmaf(a4.w, b4[j].w, product[i][j]);
      }
    }
  }
}

// sum[i] += over t: w(kI * y + i, t) * rows(t), for this thread's columns 2 x + 32 c. Weights are
// stored [row][t], or [t][row] when kTransposed.
template <bool kTransposed, typename Access, int kD, int kI>
__device__ void add_weighted(float2 (&sum)[kI][kD / 32], const float* w,
                             SharedRows<Access, kD> rows, int x, int y) {
  constexpr int kStride = TileOf<kD>::kStride;
#pragma unroll 4
  for (int t = 0; t < TileOf<kD>::kRows; ++t) {
    float weight[kI];
#pragma unroll
    for (int i = 0; i < kI; ++i) {
      weight[i] = kTransposed ? w[t * kStride + kI * y + i] : w[(kI * y + i) * kStride + t];
    }
#pragma unroll
    for (int c = 0; c < kD / 32; ++c) {
      const float2 value = rows.pair(t, 2 * x + 32 * c);
#pragma unroll
      for (int i = 0; i < kI; ++i) {
        sum[i][c].x = fmaf(weight[i], value.x, sum[i][c].x);
        sum[i][c].y = fmaf(weight[i], value.y, sum[i][c].y);
      }
    }
  }
}

template <typename Access, int kD, int kI>
__device__ void store_rows(typename Access::T* out, std::int64_t stride, int rows_valid, int width,
                           const float2 (&sum)[kI][kD / 32], const float (&factor)[kI], int x,
                           int y) {
  using T = typename Access::T;
#pragma unroll
  for (int i = 0; i < kI; ++i) {
    const int row = kI * y + i;
    if (row >= rows_valid) continue;
#pragma unroll
    for (int c = 0; c < kD / 32; ++c) {
      const int column = 2 * x + 32 * c;
      if constexpr (Access::kQuads) {
        if (column < width) {
          *reinterpret_cast<float2*>(out + row * stride + column) =
              make_float2(sum[i][c].x * factor[i], sum[i][c].y * factor[i]);
        }
      } else {
        T* to = out + row * stride + column;
        if (column < width) to[0] = narrow<T>(sum[i][c].x * factor[i]);
        if (column + 1 < width) to[1] = narrow<T>(sum[i][c].y * factor[i]);
      }
    }
  }
}

__device__ inline float row_max(float value) {
#pragma unroll
  for (int step = kSide / 2; step > 0; step /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
  }
  return value;
}
__device__ inline float row_sum(float value) {
#pragma unroll
  for (int step = kSide / 2; step > 0; step /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, step);
  }
  return value;
}

template <typename Access>
Params<Access> shape_params(const AttentionShape& s, const Tensor& starts) {
  Params<Access> p{};
  p.starts = static_cast<const std::int32_t*>(starts.data);
  p.q_len = static_cast<int>(s.q_len);
  p.kv_len = static_cast<int>(s.kv_len);
  p.kv_rows = static_cast<int>(s.kv_rows);
  p.q_offset = static_cast<int>(s.q_offset);
  p.heads = static_cast<int>(s.heads);
  p.heads_per_kv = static_cast<int>(s.heads / s.kv_heads);
  p.head_dim = static_cast<int>(s.head_dim);
  p.scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
  return p;
}

inline dim3 grid_of(int rows, int per_block, std::int64_t heads, std::int64_t batch) {
  return {static_cast<unsigned>(ceil_div(rows, per_block)), static_cast<unsigned>(heads),
          static_cast<unsigned>(batch)};
}

template <typename T>
Rows<T> rows_of(const Tensor& x) {
  return {data_of<T>(x), x.row_stride};
}

}  // namespace lockstep::cuda::plain
