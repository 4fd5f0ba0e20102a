// Plain attention forward: a block owns 64 queries of one head, with an online softmax over tiles
// of 32 keys; tiles that no query of the block sees are skipped. Grid: (query tiles, heads, batch).
// Moves q and out once, k and v once per query tile.
#pragma once

#include "kernels/cuda/attention_plain.cuh"

namespace lockstep::cuda::plain {

// Online softmax of a thread's rows; shared by the 16 threads of a row.
template <typename Access, int kD>
struct ForwardRows {
  static constexpr int kI = TileOf<kD>::kForwardRows / kSide;
  static constexpr int kJ = TileOf<kD>::kRows / kSide;
  float2 out[kI][kD / 32];
  float largest[kI];
  float sum[kI];

  __device__ ForwardRows() {
#pragma unroll
    for (int i = 0; i < kI; ++i) {
      largest[i] = -INFINITY;
      sum[i] = 0.0f;
#pragma unroll
      for (int c = 0; c < kD / 32; ++c) out[i][c] = make_float2(0.0f, 0.0f);
    }
  }

  // Turns a tile's products into weights in `weights`. first_seen: the last key that row 0 sees;
  // starts: the first key that each row sees.
  __device__ void weigh(const float (&s)[kI][kJ], float* weights, int first_seen,
                        const int (&starts)[kI], int keys, float scale, int x, int y) {
#pragma unroll
    for (int i = 0; i < kI; ++i) {
      const int row = kI * y + i;
      float score[kJ];
      float tile_largest = -INFINITY;
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        const int key = keys + x + kSide * j;
        const bool seen = key <= first_seen + row && (Access::kQuads || key >= starts[i]);
        score[j] = seen ? s[i][j] * scale : -INFINITY;
        tile_largest = fmaxf(tile_largest, score[j]);
      }
      const float now = fmaxf(largest[i], row_max(tile_largest));
      // Before its document a row has seen nothing: -infinity less -infinity is not a number.
      const float reference = !Access::kQuads && now == -INFINITY ? 0.0f : now;
      const float correction = expf(largest[i] - reference);
      largest[i] = now;
      float tile_sum = 0.0f;
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        const float weight = expf(score[j] - reference);
        weights[row * TileOf<kD>::kStride + x + kSide * j] = weight;
        tile_sum += weight;
      }
      sum[i] = sum[i] * correction + row_sum(tile_sum);
#pragma unroll
      for (int c = 0; c < kD / 32; ++c) {
        out[i][c].x *= correction;
        out[i][c].y *= correction;
      }
    }
  }
};

template <int kD>
constexpr int kForwardBytes = ((TileOf<kD>::kForwardRows + 2 * TileOf<kD>::kRows) * (kD + 4) +
                               TileOf<kD>::kForwardRows * TileOf<kD>::kStride) *
                              4;
// grid: (query tiles, heads, batch); the longest blocks start first.
template <typename Access, int kD>
__global__ void __launch_bounds__(kThreads) forward_kernel(const Params<Access> p) {
  extern __shared__ __align__(128) float attention_shared_fp32[];
  using Shared = SharedRows<Access, kD>;
  constexpr int kTile = TileOf<kD>::kRows;
  constexpr int kForwardRows = TileOf<kD>::kForwardRows;
  constexpr int kI = ForwardRows<Access, kD>::kI;
  Shared q{attention_shared_fp32};
  Shared k{q.data + kForwardRows * Shared::kStride};
  Shared v{k.data + kTile * Shared::kStride};
  float* weights = v.data + kTile * Shared::kStride;
  const int x = static_cast<int>(threadIdx.x) % kSide;
  const int y = static_cast<int>(threadIdx.x) / kSide;
  const int head = static_cast<int>(blockIdx.y);
  const int kv_head = head / p.heads_per_kv;
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kForwardRows;
  const int valid = min(kForwardRows, p.q_len - first);
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.z) * p.q_len + first;
  const std::int64_t kv_row = static_cast<std::int64_t>(blockIdx.z) * p.kv_rows;

  q.template load<kForwardRows>(head_row(p.q, row, head, p), p.q.stride, valid, p.head_dim);
  ForwardRows<Access, kD> rows;
  const int first_seen = p.q_offset + first;
  int starts[kI];
#pragma unroll
  for (int i = 0; i < kI; ++i) {
    starts[i] = p.start_of(static_cast<int>(blockIdx.z), first + kI * y + i);
  }
  const int first_key = p.start_of(static_cast<int>(blockIdx.z), first) / kTile * kTile;
  for (int keys = first_key; keys < first_seen + valid; keys += kTile) {
    __syncthreads();  // the tile before has been read
    k.template load<kTile>(head_row(p.k, kv_row + keys, kv_head, p), p.k.stride, p.kv_len - keys,
                           p.head_dim);
    v.template load<kTile>(head_row(p.v, kv_row + keys, kv_head, p), p.v.stride, p.kv_len - keys,
                           p.head_dim);
    __syncthreads();
    float s[kI][ForwardRows<Access, kD>::kJ];
    dot_rows(s, q, k, x, y);
    rows.weigh(s, weights, first_seen, starts, keys, p.scale, x, y);
    __syncwarp();  // a row's weights are written and read by one warp
    add_weighted<false>(rows.out, weights, v, x, y);
  }
  float inverse[kI];
#pragma unroll
  for (int i = 0; i < kI; ++i) {
    inverse[i] = 1.0f / rows.sum[i];
    const int r = kI * y + i;
    if (p.lse != nullptr && x == 0 && r < valid) {
      p.lse[(blockIdx.z * static_cast<std::int64_t>(p.heads) + head) * p.q_len + first + r] =
          rows.largest[i] + logf(rows.sum[i]);
    }
  }
  store_rows<Access, kD>(head_row(p.out, row, head, p), p.out.stride, valid, p.head_dim, rows.out,
                         inverse, x, y);
}

// kD: a multiple of 32, at least the head size.
template <typename Access, int kD>
void launch_forward(const AttentionForward& args, Stream& stream) {
  using T = typename Access::T;
  const AttentionShape& s = args.shape;
  Params<Access> p = shape_params<Access>(s, args.document_starts);
  p.out = rows_of<T>(args.out);
  p.lse = data_of<float>(args.lse);
  p.q = rows_of<T>(args.q);
  p.k = rows_of<T>(args.k);
  p.v = rows_of<T>(args.v);
  launch_attention(forward_kernel<Access, kD>,
                   grid_of(p.q_len, TileOf<kD>::kForwardRows, s.heads, s.batch), kThreads,
                   kForwardBytes<kD>, stream, p);
}

}  // namespace lockstep::cuda::plain
