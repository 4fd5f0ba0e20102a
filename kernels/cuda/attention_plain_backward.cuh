// Plain attention backward: delta = rowsum(dout * out); then one kernel whose blocks own 32 keys
// and sum dk, dv over the queries that see them, and one whose blocks own 32 queries and sum dq
// over the keys they see. Scores are computed once per kernel; every sum has one owner and a fixed
// order. Moves q and dout once per key tile, k and v once per query tile.
#pragma once

#include "kernels/cuda/attention_plain.cuh"

namespace lockstep::cuda::plain {

template <int kD>
constexpr int kBackwardBytes = (4 * TileOf<kD>::kRows * (kD + 4) +
                                2 * TileOf<kD>::kRows * TileOf<kD>::kStride +
                                2 * TileOf<kD>::kRows) *
                               4;

// One backward tile pair: shared tiles, and p and ds as [query][key].
template <typename Access, int kD>
struct TilePair {
  using Shared = SharedRows<Access, kD>;
  static constexpr int kTile = TileOf<kD>::kRows;
  static constexpr int kTileStride = TileOf<kD>::kStride;
  static constexpr int kI = kTile / kSide;
  Shared q, dout, k, v;
  float *weights, *ds, *lse, *delta;

  __device__ explicit TilePair(float* shared)
      : q{shared},
        dout{q.data + kTile * Shared::kStride},
        k{dout.data + kTile * Shared::kStride},
        v{k.data + kTile * Shared::kStride},
        weights{v.data + kTile * Shared::kStride},
        ds{weights + kTile * kTileStride},
        lse{ds + kTile * kTileStride},
        delta{lse + kTile} {}

  __device__ void load_queries(const Params<Access>& p, int batch, int head, int first) {
    const int valid = p.q_len - first;
    const std::int64_t row = static_cast<std::int64_t>(batch) * p.q_len + first;
    q.template load<kTile>(head_row(p.q, row, head, p), p.q.stride, valid, p.head_dim);
    dout.template load<kTile>(head_row(p.dout, row, head, p), p.dout.stride, valid, p.head_dim);
    const int i = static_cast<int>(threadIdx.x) % kTile;
    const std::int64_t at = (static_cast<std::int64_t>(batch) * p.heads + head) * p.q_len + first;
    if (threadIdx.x < kTile) lse[i] = i < valid ? p.lse[at + i] : 0.0f;
    if (threadIdx.x >= kThreads - kTile) delta[i] = i < valid ? p.delta[at + i] : 0.0f;
  }
  __device__ void load_keys(const Params<Access>& p, int batch, int kv_head, int first) {
    const std::int64_t row = static_cast<std::int64_t>(batch) * p.kv_rows + first;
    const int valid = p.kv_len - first;
    k.template load<kTile>(head_row(p.k, row, kv_head, p), p.k.stride, valid, p.head_dim);
    v.template load<kTile>(head_row(p.v, row, kv_head, p), p.v.stride, valid, p.head_dim);
  }

  // queries, keys: positions of the tiles' first rows.
  __device__ void differentiate(const Params<Access>& p, int batch, int queries, int keys, int x,
                                int y) {
    float s[kI][kI];
    float dp[kI][kI];
    dot_rows(s, q, k, x, y);
    dot_rows(dp, dout, v, x, y);
#pragma unroll
    for (int i = 0; i < kI; ++i) {
      const int row = kI * y + i;
      const int start = p.start_of(batch, queries + row);
#pragma unroll
      for (int j = 0; j < kI; ++j) {
        const int column = x + kSide * j;
        const int key = keys + column;
        const bool seen = key <= queries + row && (Access::kQuads || key >= start);
        const float weight = seen ? expf(s[i][j] * p.scale - lse[row]) : 0.0f;
        weights[row * kTileStride + column] = weight;
        ds[row * kTileStride + column] = weight * (dp[i][j] - delta[row]);
      }
    }
  }
};

// grid: (key tiles, kv_heads, batch); dk and dv are summed over the group's heads in order.
template <typename Access, int kD>
__global__ void __launch_bounds__(kThreads) key_gradient_kernel(const Params<Access> p) {
  extern __shared__ __align__(128) float attention_shared_fp32[];
  TilePair<Access, kD> tiles(attention_shared_fp32);
  constexpr int kTile = TileOf<kD>::kRows;
  constexpr int kI = TilePair<Access, kD>::kI;
  const int x = static_cast<int>(threadIdx.x) % kSide;
  const int y = static_cast<int>(threadIdx.x) / kSide;
  const int batch = static_cast<int>(blockIdx.z);
  const int kv_head = static_cast<int>(blockIdx.y);
  const int keys = static_cast<int>(blockIdx.x) * kTile;
  tiles.load_keys(p, batch, kv_head, keys);
  float2 dk[kI][kD / 32] = {};
  float2 dv[kI][kD / 32] = {};
  for (int head = kv_head * p.heads_per_kv; head < (kv_head + 1) * p.heads_per_kv; ++head) {
    for (int queries = keys; queries < p.q_len; queries += kTile) {
      if (p.start_of(batch, queries) >= keys + kTile) break;  // and so do all later ones
      __syncthreads();                                        // the tile before has been read
      tiles.load_queries(p, batch, head, queries);
      __syncthreads();
      tiles.differentiate(p, batch, queries, keys, x, y);
      __syncthreads();
      add_weighted<true>(dv, tiles.weights, tiles.dout, x, y);
      add_weighted<true>(dk, tiles.ds, tiles.q, x, y);
    }
  }
  const std::int64_t row = static_cast<std::int64_t>(batch) * p.kv_rows + keys;
  const int valid = p.kv_len - keys;
  float one[kI], scale[kI];
#pragma unroll
  for (int i = 0; i < kI; ++i) {
    one[i] = 1.0f;
    scale[i] = p.scale;
  }
  store_rows<Access, kD>(head_row(p.dv, row, kv_head, p), p.dv.stride, valid, p.head_dim, dv, one,
                         x, y);
  store_rows<Access, kD>(head_row(p.dk, row, kv_head, p), p.dk.stride, valid, p.head_dim, dk, scale,
                         x, y);
}

// grid: (query tiles, heads, batch); the longest blocks start first.
template <typename Access, int kD>
__global__ void __launch_bounds__(kThreads) query_gradient_kernel(const Params<Access> p) {
  extern __shared__ __align__(128) float attention_shared_fp32[];
  TilePair<Access, kD> tiles(attention_shared_fp32);
  constexpr int kTile = TileOf<kD>::kRows;
  constexpr int kI = TilePair<Access, kD>::kI;
  const int x = static_cast<int>(threadIdx.x) % kSide;
  const int y = static_cast<int>(threadIdx.x) / kSide;
  const int batch = static_cast<int>(blockIdx.z);
  const int head = static_cast<int>(blockIdx.y);
  const int queries = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kTile;
  tiles.load_queries(p, batch, head, queries);
  float2 dq[kI][kD / 32] = {};
  const int first_key = p.start_of(batch, queries) / kTile * kTile;
  for (int keys = first_key; keys <= queries; keys += kTile) {
    __syncthreads();  // the tile before has been read
    tiles.load_keys(p, batch, head / p.heads_per_kv, keys);
    __syncthreads();
    tiles.differentiate(p, batch, queries, keys, x, y);
    __syncwarp();  // a row's ds is written and read by one warp
    add_weighted<false>(dq, tiles.ds, tiles.k, x, y);
  }
  const std::int64_t row = static_cast<std::int64_t>(batch) * p.q_len + queries;
  float scale[kI];
#pragma unroll
  for (int i = 0; i < kI; ++i) scale[i] = p.scale;
  store_rows<Access, kD>(head_row(p.dq, row, head, p), p.dq.stride, p.q_len - queries, p.head_dim,
                         dq, scale, x, y);
}

// delta = rowsum(dout * out): 16 threads per head of a row.
template <typename Access>
__global__ void __launch_bounds__(kThreads)
    delta_kernel(const Params<Access> p, std::int64_t items) {
  const std::int64_t item =
      (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kSide;
  const int x = static_cast<int>(threadIdx.x) % kSide;
  const std::int64_t row = item / p.heads;
  const int head = static_cast<int>(item % p.heads);
  float sum = 0.0f;
  if (item < items) {
    const auto* a = head_row(p.dout, row, head, p);
    const auto* b = head_row(p.out, row, head, p);
    for (int d = x; d < p.head_dim; d += kSide) sum = fmaf(widen(a[d]), widen(b[d]), sum);
  }
  sum = row_sum(sum);
  if (item < items && x == 0) {
    p.delta[(row / p.q_len * p.heads + head) * p.q_len + row % p.q_len] = sum;
  }
}

template <typename Access>
Params<Access> backward_params(const AttentionBackward& args) {
  using T = typename Access::T;
  Params<Access> p = shape_params<Access>(args.shape, args.document_starts);
  p.out = rows_of<T>(args.out);
  p.dout = rows_of<T>(args.dout);
  p.q = rows_of<T>(args.q);
  p.k = rows_of<T>(args.k);
  p.v = rows_of<T>(args.v);
  p.dq = rows_of<T>(args.dq);
  p.dk = rows_of<T>(args.dk);
  p.dv = rows_of<T>(args.dv);
  p.lse = data_of<float>(args.lse);
  p.delta = static_cast<float*>(args.scratch.data);
  return p;
}

template <typename Access>
void launch_delta(const Params<Access>& p, std::int64_t batch, Stream& stream) {
  const std::int64_t items = batch * p.q_len * p.heads;
  const auto blocks = static_cast<unsigned>((items * kSide + kThreads - 1) / kThreads);
  launch_attention(delta_kernel<Access>, dim3(blocks), kThreads, 0, stream, p, items);
}

template <typename Access, int kD>
void launch_backward(const AttentionBackward& args, Stream& stream) {
  const AttentionShape& s = args.shape;
  const Params<Access> p = backward_params<Access>(args);
  launch_delta(p, s.batch, stream);
  launch_attention(key_gradient_kernel<Access, kD>,
                   grid_of(p.kv_len, TileOf<kD>::kRows, s.kv_heads, s.batch), kThreads,
                   kBackwardBytes<kD>, stream, p);
  launch_attention(query_gradient_kernel<Access, kD>,
                   grid_of(p.q_len, TileOf<kD>::kRows, s.heads, s.batch), kThreads,
                   kBackwardBytes<kD>, stream, p);
}

}  // namespace lockstep::cuda::plain
