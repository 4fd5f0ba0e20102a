// Attention forward in TF32: a block owns 128 queries of one head, a warp 16 of them, with an
// online softmax in powers of two over tiles of 64 keys (FlashAttention-2, arXiv 2307.08691). Grid:
// (query tiles, heads, batch). Moves q and out once, k and v once per block.
#include "kernels/cuda/attention_tf32.cuh"

#include "kernels/cuda/attention.cuh"

namespace lockstep::cuda {
namespace tf32 {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kQueries = kWarps * kWarpRows;
constexpr int kKeys = 64;

// The online softmax of rows g and g + 8; the four lanes of a row share its maximum, and each has
// a part of its sum.
template <int kD>
struct Softmax {
  float out[kD / 8][4] = {};
  float largest[2] = {-INFINITY, -INFINITY};
  float sum[2] = {};

  // Turns a tile's scores (in powers of two) into weights.
  __device__ void weigh(float (&s)[kKeys / 8][4]) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float now = largest[half];
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
        now = fmaxf(now, fmaxf(s[n][2 * half], s[n][2 * half + 1]));
      }
      now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 1));
      now = fmaxf(now, __shfl_xor_sync(0xffffffffu, now, 2));
      const float correction = fast_exp2(largest[half] - now);
      largest[half] = now;
      sum[half] *= correction;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          s[n][i] = fast_exp2(s[n][i] - now);
          sum[half] += s[n][i];
        }
      }
#pragma unroll
      for (int d = 0; d < kD / 8; ++d) {
        out[d][2 * half] *= correction;
        out[d][2 * half + 1] *= correction;
      }
    }
  }
  __device__ float total(int half) const {
    float all = sum[half] + __shfl_xor_sync(0xffffffffu, sum[half], 1);
    return all + __shfl_xor_sync(0xffffffffu, all, 2);
  }
};

// Hides keys [keys, ...) that come after the rows' own places: row g sees up to last_seen.
__device__ __forceinline__ void mask(float (&s)[kKeys / 8][4], int keys, int last_seen) {
#pragma unroll
  for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int key = keys + 8 * n + 2 * place_in_group() + i % 2;
      if (key > last_seen + i / 2 * 8) s[n][i] = -INFINITY;
    }
  }
}

// The longest blocks start first.
template <int kD>
__global__ void __launch_bounds__(kThreads) forward_kernel(const Params p) {
  extern __shared__ __align__(128) float attention_shared_tf32[];
  const TilePairs<kD, kKeys, kThreads> tiles{attention_shared_tf32};
  const int head = static_cast<int>(blockIdx.y);
  const int kv_head = head / p.heads_per_kv;
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kQueries;
  const int warp_first = first + static_cast<int>(threadIdx.x) / 32 * kWarpRows;
  const std::int64_t rows = static_cast<std::int64_t>(blockIdx.z) * p.q_len;
  const std::int64_t kv_rows = static_cast<std::int64_t>(blockIdx.z) * p.kv_rows;
  const auto start = [&](int i) {
    tiles.start(i, source_of(p.k, kv_rows, i * kKeys, p.kv_len, kv_head, p),
                source_of(p.v, kv_rows, i * kKeys, p.kv_len, kv_head, p));
  };
  start(0);
  WarpRows<kD, true> q;
  q.load(source_of(p.q, rows, warp_first, p.q_len, head, p), p.scale * kLog2e, nullptr);
  Softmax<kD> softmax;
  const int last_seen = p.q_offset + warp_first + group_of_lane();
  const int end = p.q_offset + min(first + kQueries, p.q_len);
  const int count = (end + kKeys - 1) / kKeys;
  for (int i = 0; i < count; ++i) {
    tiles.finish(i);
    __syncthreads();  // this pair is whole, and the one before has been read
    if (i + 1 < count) start(i + 1);
    if (i * kKeys > p.q_offset + warp_first + kWarpRows - 1) continue;
    float s[kKeys / 8][4];
    multiply_rows(s, q, tiles.first(i));
    if ((i + 1) * kKeys > p.q_offset + warp_first + 1) mask(s, i * kKeys, last_seen);
    softmax.weigh(s);
    add_weighted<kD>(softmax.out, s, tiles.second(i));
  }
  float inverse[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float total = softmax.total(half);
    inverse[half] = 1.0f / total;
    const int row = warp_first + group_of_lane() + 8 * half;
    if (p.lse != nullptr && place_in_group() == 0 && row < p.q_len) {
      p.lse[(static_cast<std::int64_t>(blockIdx.z) * p.heads + head) * p.q_len + row] =
          softmax.largest[half] * kLn2 + logf(total);
    }
  }
  store_rows<kD>(plain::head_row<plain::Quads>(p.out, rows + warp_first, head, p), p.out.stride,
                 p.q_len - warp_first, p.head_dim, softmax.out, inverse[0], inverse[1]);
}

template <int kD>
void launch_forward(const AttentionForward& args, Stream& stream) {
  Params p = plain::shape_params<plain::Quads>(args.shape, Tensor{});
  p.out = plain::rows_of<float>(args.out);
  p.lse = data_of<float>(args.lse);
  p.q = plain::rows_of<float>(args.q);
  p.k = plain::rows_of<float>(args.k);
  p.v = plain::rows_of<float>(args.v);
  launch_attention(forward_kernel<kD>,
                   plain::grid_of(p.q_len, kQueries, args.shape.heads, args.shape.batch), kThreads,
                   TilePairs<kD, kKeys, kThreads>::kBytes, stream, p);
}

}  // namespace
}  // namespace tf32

void attention_forward_tf32(const AttentionForward& args, Stream& stream) {
  with_padded_head_dim(args.shape.head_dim,
                       [&](auto head_dim) { tf32::launch_forward<head_dim()>(args, stream); });
}

}  // namespace lockstep::cuda
