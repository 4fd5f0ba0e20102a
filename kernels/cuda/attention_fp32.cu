// Causal attention in plain fp32 (FFMA, no TF32), tiled through shared memory.
// Forward: a block owns 64 queries of one head, online softmax over tiles of 32 keys.
// Backward: delta = rowsum(dout * out); then one kernel whose blocks own 32 keys and sum dk, dv
// over the queries that see them, and one whose blocks own 32 queries and sum dq over the keys they
// see. Scores are computed once per kernel; every sum has one owner and a fixed order. All blocks
// are 16 x 16 threads: thread (x, y) owns a few rows near y and columns near x.
#include "kernels/cuda/attention_launch.cuh"
#include "kernels/cuda/attention_layout.cuh"

#include <cmath>

namespace lockstep::cuda {
namespace {

constexpr int kSide = 16;  // the block is kSide x kSide threads
constexpr int kThreads = kSide * kSide;
constexpr int kForwardRows = 64;
constexpr int kTile = 32;  // keys per forward tile; keys and queries per backward tile
constexpr int kTileStride = kTile + 4;

struct Rows {  // all heads of a tensor: row r of head h begins at data + r * stride + h * head_dim
  float* data;
  std::int64_t stride;
};

struct Params {
  Rows out, dout, q, k, v, dq, dk, dv;
  float* lse;    // (B, H, q_len), or null
  float* delta;  // (B, H, q_len)
  int q_len, kv_len, kv_rows, q_offset;
  int heads, heads_per_kv, head_dim;
  float scale;
};

__device__ float* head_row(const Rows& x, std::int64_t row, int head, const Params& p) {
  return x.data + row * x.stride + static_cast<std::int64_t>(head) * p.head_dim;
}

// A tile of rows padded to kD + 4 floats, so that a column of float4 is free of bank conflicts.
template <int kD>
struct SharedRows {
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
  __device__ void load(const float* from, std::int64_t stride, int rows_valid, int width) {
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
template <int kD, int kI, int kJ>
__device__ void dot_rows(float (&product)[kI][kJ], SharedRows<kD> a, SharedRows<kD> b, int x,
                         int y) {
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
template <bool kTransposed, int kD, int kI>
__device__ void add_weighted(float2 (&sum)[kI][kD / 32], const float* w, SharedRows<kD> rows, int x,
                             int y) {
#pragma unroll 4
  for (int t = 0; t < kTile; ++t) {
    float weight[kI];
#pragma unroll
    for (int i = 0; i < kI; ++i) {
      weight[i] = kTransposed ? w[t * kTileStride + kI * y + i] : w[(kI * y + i) * kTileStride + t];
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

template <int kD, int kI>
__device__ void store_rows(float* out, std::int64_t stride, int rows_valid, int width,
                           const float2 (&sum)[kI][kD / 32], const float (&factor)[kI], int x,
                           int y) {
#pragma unroll
  for (int i = 0; i < kI; ++i) {
    const int row = kI * y + i;
    if (row >= rows_valid) continue;
#pragma unroll
    for (int c = 0; c < kD / 32; ++c) {
      const int column = 2 * x + 32 * c;
      if (column < width) {
        *reinterpret_cast<float2*>(out + row * stride + column) =
            make_float2(sum[i][c].x * factor[i], sum[i][c].y * factor[i]);
      }
    }
  }
}

__device__ float row_max(float value) {
#pragma unroll
  for (int step = kSide / 2; step > 0; step /= 2) {
    value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, step));
  }
  return value;
}
__device__ float row_sum(float value) {
#pragma unroll
  for (int step = kSide / 2; step > 0; step /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, step);
  }
  return value;
}

// Online softmax of a thread's rows; shared by the 16 threads of a row.
template <int kD>
struct ForwardRows {
  static constexpr int kI = kForwardRows / kSide;
  static constexpr int kJ = kTile / kSide;
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

  // Turns a tile's products into weights in `weights`. first_seen: the last key that row 0 sees.
  __device__ void weigh(const float (&s)[kI][kJ], float* weights, int first_seen, int keys,
                        float scale, int x, int y) {
#pragma unroll
    for (int i = 0; i < kI; ++i) {
      const int row = kI * y + i;
      float score[kJ];
      float tile_largest = -INFINITY;
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        const bool seen = keys + x + kSide * j <= first_seen + row;
        score[j] = seen ? s[i][j] * scale : -INFINITY;
        tile_largest = fmaxf(tile_largest, score[j]);
      }
      const float now = fmaxf(largest[i], row_max(tile_largest));
      const float correction = expf(largest[i] - now);
      largest[i] = now;
      float tile_sum = 0.0f;
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        const float weight = expf(score[j] - now);
        weights[row * kTileStride + x + kSide * j] = weight;
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
constexpr int kForwardBytes = ((kForwardRows + 2 * kTile) * SharedRows<kD>::kStride +
                               kForwardRows * kTileStride) *
                              4;
template <int kD>
constexpr int kBackwardBytes = (4 * kTile * SharedRows<kD>::kStride + 2 * kTile * kTileStride +
                                2 * kTile) *
                               4;

// grid: (query tiles, heads, batch); the longest blocks start first.
template <int kD>
__global__ void __launch_bounds__(kThreads) forward_kernel(const Params p) {
  extern __shared__ __align__(128) float attention_shared_fp32[];
  using Shared = SharedRows<kD>;
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
  ForwardRows<kD> rows;
  const int first_seen = p.q_offset + first;
  for (int keys = 0; keys < first_seen + valid; keys += kTile) {
    __syncthreads();  // the tile before has been read
    k.template load<kTile>(head_row(p.k, kv_row + keys, kv_head, p), p.k.stride, p.kv_len - keys,
                           p.head_dim);
    v.template load<kTile>(head_row(p.v, kv_row + keys, kv_head, p), p.v.stride, p.kv_len - keys,
                           p.head_dim);
    __syncthreads();
    float s[ForwardRows<kD>::kI][ForwardRows<kD>::kJ];
    dot_rows(s, q, k, x, y);
    rows.weigh(s, weights, first_seen, keys, p.scale, x, y);
    __syncwarp();  // a row's weights are written and read by one warp
    add_weighted<false>(rows.out, weights, v, x, y);
  }
  float inverse[ForwardRows<kD>::kI];
#pragma unroll
  for (int i = 0; i < ForwardRows<kD>::kI; ++i) {
    inverse[i] = 1.0f / rows.sum[i];
    const int r = ForwardRows<kD>::kI * y + i;
    if (p.lse != nullptr && x == 0 && r < valid) {
      p.lse[(blockIdx.z * static_cast<std::int64_t>(p.heads) + head) * p.q_len + first + r] =
          rows.largest[i] + logf(rows.sum[i]);
    }
  }
  store_rows<kD>(head_row(p.out, row, head, p), p.out.stride, valid, p.head_dim, rows.out, inverse,
                 x, y);
}

// One backward tile pair: shared tiles, and p and ds as [query][key].
template <int kD>
struct TilePair {
  using Shared = SharedRows<kD>;
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

  __device__ void load_queries(const Params& p, int batch, int head, int first) {
    const int valid = p.q_len - first;
    const std::int64_t row = static_cast<std::int64_t>(batch) * p.q_len + first;
    q.template load<kTile>(head_row(p.q, row, head, p), p.q.stride, valid, p.head_dim);
    dout.template load<kTile>(head_row(p.dout, row, head, p), p.dout.stride, valid, p.head_dim);
    const int i = static_cast<int>(threadIdx.x) % kTile;
    const std::int64_t at = (static_cast<std::int64_t>(batch) * p.heads + head) * p.q_len + first;
    if (threadIdx.x < kTile) lse[i] = i < valid ? p.lse[at + i] : 0.0f;
    if (threadIdx.x >= kThreads - kTile) delta[i] = i < valid ? p.delta[at + i] : 0.0f;
  }
  __device__ void load_keys(const Params& p, int batch, int kv_head, int first) {
    const std::int64_t row = static_cast<std::int64_t>(batch) * p.kv_rows + first;
    const int valid = p.kv_len - first;
    k.template load<kTile>(head_row(p.k, row, kv_head, p), p.k.stride, valid, p.head_dim);
    v.template load<kTile>(head_row(p.v, row, kv_head, p), p.v.stride, valid, p.head_dim);
  }

  // queries, keys: positions of the tiles' first rows.
  __device__ void differentiate(int queries, int keys, float scale, int x, int y) {
    float s[kI][kI];
    float dp[kI][kI];
    dot_rows(s, q, k, x, y);
    dot_rows(dp, dout, v, x, y);
#pragma unroll
    for (int i = 0; i < kI; ++i) {
      const int row = kI * y + i;
#pragma unroll
      for (int j = 0; j < kI; ++j) {
        const int column = x + kSide * j;
        const bool seen = keys + column <= queries + row;
        const float weight = seen ? expf(s[i][j] * scale - lse[row]) : 0.0f;
        weights[row * kTileStride + column] = weight;
        ds[row * kTileStride + column] = weight * (dp[i][j] - delta[row]);
      }
    }
  }
};

// grid: (key tiles, kv_heads, batch); dk and dv are summed over the group's heads in order.
template <int kD>
__global__ void __launch_bounds__(kThreads) key_gradient_kernel(const Params p) {
  extern __shared__ __align__(128) float attention_shared_fp32[];
  TilePair<kD> tiles(attention_shared_fp32);
  constexpr int kI = TilePair<kD>::kI;
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
      __syncthreads();  // the tile before has been read
      tiles.load_queries(p, batch, head, queries);
      __syncthreads();
      tiles.differentiate(queries, keys, p.scale, x, y);
      __syncthreads();
      add_weighted<true>(dv, tiles.weights, tiles.dout, x, y);
      add_weighted<true>(dk, tiles.ds, tiles.q, x, y);
    }
  }
  const std::int64_t row = static_cast<std::int64_t>(batch) * p.kv_rows + keys;
  const int valid = p.kv_len - keys;
  const float one[kI] = {1.0f, 1.0f};
  const float scale[kI] = {p.scale, p.scale};
  store_rows<kD>(head_row(p.dv, row, kv_head, p), p.dv.stride, valid, p.head_dim, dv, one, x, y);
  store_rows<kD>(head_row(p.dk, row, kv_head, p), p.dk.stride, valid, p.head_dim, dk, scale, x, y);
}

// grid: (query tiles, heads, batch); the longest blocks start first.
template <int kD>
__global__ void __launch_bounds__(kThreads) query_gradient_kernel(const Params p) {
  extern __shared__ __align__(128) float attention_shared_fp32[];
  TilePair<kD> tiles(attention_shared_fp32);
  constexpr int kI = TilePair<kD>::kI;
  const int x = static_cast<int>(threadIdx.x) % kSide;
  const int y = static_cast<int>(threadIdx.x) / kSide;
  const int batch = static_cast<int>(blockIdx.z);
  const int head = static_cast<int>(blockIdx.y);
  const int queries = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kTile;
  tiles.load_queries(p, batch, head, queries);
  float2 dq[kI][kD / 32] = {};
  for (int keys = 0; keys <= queries; keys += kTile) {
    __syncthreads();  // the tile before has been read
    tiles.load_keys(p, batch, head / p.heads_per_kv, keys);
    __syncthreads();
    tiles.differentiate(queries, keys, p.scale, x, y);
    __syncwarp();  // a row's ds is written and read by one warp
    add_weighted<false>(dq, tiles.ds, tiles.k, x, y);
  }
  const std::int64_t row = static_cast<std::int64_t>(batch) * p.q_len + queries;
  const float scale[kI] = {p.scale, p.scale};
  store_rows<kD>(head_row(p.dq, row, head, p), p.dq.stride, p.q_len - queries, p.head_dim, dq,
                 scale, x, y);
}

// delta = rowsum(dout * out): 16 threads per head of a row.
__global__ void __launch_bounds__(kThreads) delta_fp32_kernel(const Params p, std::int64_t items) {
  const std::int64_t item =
      (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) / kSide;
  const int x = static_cast<int>(threadIdx.x) % kSide;
  const std::int64_t row = item / p.heads;
  const int head = static_cast<int>(item % p.heads);
  float sum = 0.0f;
  if (item < items) {
    const float* a = head_row(p.dout, row, head, p);
    const float* b = head_row(p.out, row, head, p);
    for (int d = x; d < p.head_dim; d += kSide) sum = fmaf(a[d], b[d], sum);
  }
  sum = row_sum(sum);
  if (item < items && x == 0) {
    p.delta[(row / p.q_len * p.heads + head) * p.q_len + row % p.q_len] = sum;
  }
}

Rows rows_of(const Tensor& x) { return {x.as<float>(), x.row_stride}; }

Params shape_params(const AttentionShape& s) {
  Params p{};
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

dim3 grid_of(int rows, int per_block, std::int64_t heads, std::int64_t batch) {
  return {static_cast<unsigned>(ceil_div(rows, per_block)), static_cast<unsigned>(heads),
          static_cast<unsigned>(batch)};
}

}  // namespace

void attention_forward_fp32(const AttentionForward& args, Stream& stream) {
  const AttentionShape& s = args.shape;
  Params p = shape_params(s);
  p.out = rows_of(args.out);
  p.lse = args.lse ? args.lse.as<float>() : nullptr;
  p.q = rows_of(args.q);
  p.k = rows_of(args.k);
  p.v = rows_of(args.v);
  with_padded_head_dim(s.head_dim, [&](auto head_dim) {
    launch_attention(forward_kernel<head_dim()>, grid_of(p.q_len, kForwardRows, s.heads, s.batch),
                     kThreads, kForwardBytes<head_dim()>, stream, p);
  });
}

void attention_backward_fp32(const AttentionBackward& args, Stream& stream) {
  const AttentionShape& s = args.shape;
  CHECK(args.scratch.bytes() >= attention_scratch_bytes_fp32(s), "attention: scratch has {} bytes",
        args.scratch.bytes());
  Params p = shape_params(s);
  p.out = rows_of(args.out);
  p.dout = rows_of(args.dout);
  p.q = rows_of(args.q);
  p.k = rows_of(args.k);
  p.v = rows_of(args.v);
  p.dq = rows_of(args.dq);
  p.dk = rows_of(args.dk);
  p.dv = rows_of(args.dv);
  p.lse = args.lse.as<float>();
  p.delta = static_cast<float*>(args.scratch.data);
  const std::int64_t items = s.batch * s.q_len * s.heads;
  const auto blocks = static_cast<unsigned>((items * kSide + kThreads - 1) / kThreads);
  launch_attention(delta_fp32_kernel, dim3(blocks), kThreads, 0, stream, p, items);
  with_padded_head_dim(s.head_dim, [&](auto head_dim) {
    launch_attention(key_gradient_kernel<head_dim()>, grid_of(p.kv_len, kTile, s.kv_heads, s.batch),
                     kThreads, kBackwardBytes<head_dim()>, stream, p);
    launch_attention(query_gradient_kernel<head_dim()>, grid_of(p.q_len, kTile, s.heads, s.batch),
                     kThreads, kBackwardBytes<head_dim()>, stream, p);
  });
}

std::size_t attention_scratch_bytes_fp32(const AttentionShape& shape) {
  return static_cast<std::size_t>(shape.batch * shape.heads * shape.q_len) * sizeof(float);
}

}  // namespace lockstep::cuda
