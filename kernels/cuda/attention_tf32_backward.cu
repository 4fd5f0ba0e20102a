// Attention backward in TF32: one kernel whose blocks own 64 keys and sum dk, dv over the queries
// that see them, and one whose blocks own 64 queries and sum dq over the keys they see; both
// compute the scores anew. Every sum has one owner and a fixed order. Moves q and dout once per key
// block, k and v once per query block.
#include "kernels/cuda/attention_plain_backward.cuh"
#include "kernels/cuda/attention_tf32.cuh"

#include "kernels/cuda/attention.cuh"

namespace lockstep::cuda {
namespace tf32 {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = 32 * kWarps;
constexpr int kOwned = kWarps * kWarpRows;  // rows of a block
constexpr int kTileRows = 32;               // rows of a tile that it walks
constexpr int kN = kTileRows / 8;

template <int kD>
using Tiles = TilePairs<kD, kTileRows, kThreads>;
// Larger head sizes keep the warp's own rows in shared memory.
template <int kD>
constexpr bool kHeld = kD <= 64;
template <int kD>
constexpr int kOwnFloats = kHeld<kD> ? 0 : kOwned* kStride<kD>;
template <int kD>
constexpr int kSharedBytes = Tiles<kD>::kBytes + (2 * kOwnFloats<kD> + 4 * kTileRows) * 4;

// Shared memory: two pairs of tiles, two rows' worth of (lse, delta), the warps' own rows.
template <int kD>
struct Shared {
  Tiles<kD> tiles;
  float* statistics;
  float *own_a, *own_b;  // this warp's

  __device__ explicit Shared(float* data) : tiles{data}, statistics(data + Tiles<kD>::kBytes / 4) {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    own_a = statistics + 4 * kTileRows + warp * (kOwnFloats<kD> / kWarps);
    own_b = own_a + kOwnFloats<kD>;
  }
  // lse, then delta, of the queries of tile i.
  __device__ float* lse(int i) const { return statistics + i % 2 * 2 * kTileRows; }
  __device__ float* delta(int i) const { return lse(i) + kTileRows; }
};

// Rows are keys here, columns queries. s: scores in, probabilities out. dp: dout v^T in, the
// scores' gradients out. A query before its key has none.
__device__ __forceinline__ void differentiate(float (&s)[kN][4], float (&dp)[kN][4],
                                              const float* lse, const float* delta, int key,
                                              int queries, float factor) {
#pragma unroll
  for (int n = 0; n < kN; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int column = 8 * n + 2 * place_in_group() + i % 2;
      const bool seen = key + i / 2 * 8 <= queries + column;
      s[n][i] = seen ? fast_exp2(s[n][i] * factor - lse[column] * kLog2e) : 0.0f;
      dp[n][i] = s[n][i] * (dp[n][i] - delta[column]);
    }
  }
}

// grid: (key tiles, kv_heads, batch); the group's heads are summed in order.
template <int kD>
__global__ void __launch_bounds__(kThreads) key_gradient_kernel(const Params p) {
  extern __shared__ __align__(128) float attention_shared_tf32[];
  const Shared<kD> shared(attention_shared_tf32);
  const int kv_head = static_cast<int>(blockIdx.y);
  const int keys = static_cast<int>(blockIdx.x) * kOwned;
  const int warp_keys = keys + static_cast<int>(threadIdx.x) / 32 * kWarpRows;
  const std::int64_t rows = static_cast<std::int64_t>(blockIdx.z) * p.q_len;
  const int per_head = (p.q_len - keys + kTileRows - 1) / kTileRows;
  const int count = p.heads_per_kv * per_head;
  const auto queries_of = [&](int i) { return keys + i % per_head * kTileRows; };
  const auto start = [&](int i) {
    const int head = kv_head * p.heads_per_kv + i / per_head;
    const int first = queries_of(i);
    const int row = static_cast<int>(threadIdx.x) % kTileRows;
    const bool valid = first + row < p.q_len;
    const std::int64_t at =
        (static_cast<std::int64_t>(blockIdx.z) * p.heads + head) * p.q_len + first + row;
    if (threadIdx.x < kTileRows) {
      copy_async_4(shared_address(shared.lse(i) + row), valid ? p.lse + at : p.lse, valid);
    } else if (threadIdx.x < 2 * kTileRows) {
      copy_async_4(shared_address(shared.delta(i) + row), valid ? p.delta + at : p.delta, valid);
    }
    shared.tiles.start(i, source_of(p.q, rows, first, p.q_len, head, p),
                       source_of(p.dout, rows, first, p.q_len, head, p));
  };
  start(0);
  WarpRows<kD, kHeld<kD>> k, v;
  k.load(source_of(p.k, rows, warp_keys, p.kv_len, kv_head, p), 1.0f, shared.own_a);
  v.load(source_of(p.v, rows, warp_keys, p.kv_len, kv_head, p), 1.0f, shared.own_b);
  float dk[kD / 8][4] = {};
  float dv[kD / 8][4] = {};
  for (int i = 0; i < count; ++i) {
    shared.tiles.finish(i);
    __syncthreads();  // this pair is whole, and the one before has been read
    if (i + 1 < count) start(i + 1);
    if (queries_of(i) + kTileRows <= warp_keys) continue;
    float s[kN][4], dp[kN][4];
    multiply_rows(s, k, shared.tiles.first(i));
    multiply_rows(dp, v, shared.tiles.second(i));
    differentiate(s, dp, shared.lse(i), shared.delta(i), warp_keys + group_of_lane(), queries_of(i),
                  p.scale * kLog2e);
    add_weighted<kD>(dv, s, shared.tiles.second(i));
    add_weighted<kD>(dk, dp, shared.tiles.first(i));
  }
  const int valid = p.kv_len - warp_keys;
  store_rows<kD>(plain::head_row<plain::Quads>(p.dk, rows + warp_keys, kv_head, p), p.dk.stride,
                 valid, p.head_dim, dk, p.scale, p.scale);
  store_rows<kD>(plain::head_row<plain::Quads>(p.dv, rows + warp_keys, kv_head, p), p.dv.stride,
                 valid, p.head_dim, dv, 1.0f, 1.0f);
}

// grid: (query tiles, heads, batch); the longest blocks start first.
template <int kD>
__global__ void __launch_bounds__(kThreads) query_gradient_kernel(const Params p) {
  extern __shared__ __align__(128) float attention_shared_tf32[];
  const Shared<kD> shared(attention_shared_tf32);
  const int head = static_cast<int>(blockIdx.y);
  const int kv_head = head / p.heads_per_kv;
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kOwned;
  const int warp_first = first + static_cast<int>(threadIdx.x) / 32 * kWarpRows;
  const int query = warp_first + group_of_lane();
  const std::int64_t rows = static_cast<std::int64_t>(blockIdx.z) * p.q_len;
  const auto start = [&](int i) {
    shared.tiles.start(i, source_of(p.k, rows, i * kTileRows, p.kv_len, kv_head, p),
                       source_of(p.v, rows, i * kTileRows, p.kv_len, kv_head, p));
  };
  start(0);
  WarpRows<kD, kHeld<kD>> q, dout;
  q.load(source_of(p.q, rows, warp_first, p.q_len, head, p), 1.0f, shared.own_a);
  dout.load(source_of(p.dout, rows, warp_first, p.q_len, head, p), 1.0f, shared.own_b);
  float lse[2], delta[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = min(query + 8 * half, p.q_len - 1);
    const std::int64_t at =
        (static_cast<std::int64_t>(blockIdx.z) * p.heads + head) * p.q_len + row;
    lse[half] = p.lse[at] * kLog2e;
    delta[half] = p.delta[at];
  }
  float dq[kD / 8][4] = {};
  const int count = (min(first + kOwned, p.q_len) + kTileRows - 1) / kTileRows;
  for (int i = 0; i < count; ++i) {
    shared.tiles.finish(i);
    __syncthreads();  // this pair is whole, and the one before has been read
    if (i + 1 < count) start(i + 1);
    if (i * kTileRows > warp_first + kWarpRows - 1) continue;
    float s[kN][4], dp[kN][4];
    multiply_rows(s, q, shared.tiles.first(i));
    multiply_rows(dp, dout, shared.tiles.second(i));
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int key = i * kTileRows + 8 * n + 2 * place_in_group() + j % 2;
        const bool seen = key <= query + j / 2 * 8;
        const float weight = seen ? fast_exp2(s[n][j] * (p.scale * kLog2e) - lse[j / 2]) : 0.0f;
        dp[n][j] = weight * (dp[n][j] - delta[j / 2]);
      }
    }
    add_weighted<kD>(dq, dp, shared.tiles.first(i));
  }
  store_rows<kD>(plain::head_row<plain::Quads>(p.dq, rows + warp_first, head, p), p.dq.stride,
                 p.q_len - warp_first, p.head_dim, dq, p.scale, p.scale);
}

template <int kD>
void launch_backward(const AttentionBackward& args, Stream& stream) {
  const AttentionShape& s = args.shape;
  const Params p = plain::backward_params<plain::Quads>(args);
  plain::launch_delta<plain::Quads>(p, s.batch, stream);
  launch_attention(key_gradient_kernel<kD>, plain::grid_of(p.kv_len, kOwned, s.kv_heads, s.batch),
                   kThreads, kSharedBytes<kD>, stream, p);
  launch_attention(query_gradient_kernel<kD>, plain::grid_of(p.q_len, kOwned, s.heads, s.batch),
                   kThreads, kSharedBytes<kD>, stream, p);
}

}  // namespace
}  // namespace tf32

void attention_backward_tf32(const AttentionBackward& args, Stream& stream) {
  with_padded_head_dim(args.shape.head_dim,
                       [&](auto head_dim) { tf32::launch_backward<head_dim()>(args, stream); });
}

}  // namespace lockstep::cuda
