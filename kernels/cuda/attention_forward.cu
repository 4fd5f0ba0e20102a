// Causal attention forward on tensor cores (FlashAttention-2: Dao, arXiv 2307.08691):
//   out = softmax(q k^T / sqrt(D), causal) v,   lse = log(sum(exp(scores))) per row.
// One block of 4 warps owns 128 query rows of one head and walks over key tiles of 64 rows, which
// cp.async double-buffers in shared memory. Each warp keeps its 32 rows of scores, probabilities
// and output in registers; tiles wholly above the diagonal are skipped.
// Moves q, out once and k, v once per query block (the latter mostly from L2).
#include "kernels/cuda/attention_launch.cuh"
#include "kernels/cuda/attention_tile.cuh"

#include <cmath>

namespace lockstep::cuda {
namespace {

template <int kHeadDim>
struct ForwardTile {
  static constexpr int kD = kHeadDim;
  static constexpr int kChunks = kD / 8;
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kWarps * kWarpSize;
  static constexpr int kM = 2;  // 16-row fragments per warp
  static constexpr int kWarpRows = 16 * kM;
  static constexpr int kBlockQ = kWarpRows * kWarps;
  static constexpr int kBlockK = kD <= 64 ? 64 : 32;
  static constexpr int kQBytes = kBlockQ * kD * 2;
  static constexpr int kKvBytes = kBlockK * kD * 2;
  static constexpr int kSharedBytes = kQBytes + 4 * kKvBytes;  // q; two buffers of k and of v
};

template <typename T>
struct ForwardParams {
  HeadRows<T> out;
  float* lse;  // or null
  HeadRows<const T> q, k, v;
  int q_len, kv_len, kv_rows, q_offset;
  int heads, heads_per_kv, head_dim;
  float scale_log2;  // log2(e) / sqrt(head_dim): scores are kept in powers of two
};

// Running softmax of a thread's rows: weights are 2^(score - reference). The reference follows the
// row's maximum only when that has grown by more than kSlack, because rescaling the output costs
// more than weights up to 2^kSlack; the result is the same softmax.
constexpr float kSlack = 8.0f;

template <int kM>
struct OnlineSoftmax {
  float reference[kM][2];
  float sum[kM][2];  // of this lane's columns only, until finish

  __device__ __forceinline__ OnlineSoftmax() {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      reference[m][0] = reference[m][1] = -INFINITY;
      sum[m][0] = sum[m][1] = 0.0f;
    }
  }

  // Turns scores (unscaled) into weights, and rescales out when a reference moves.
  template <int kN, int kOut>
  __device__ __forceinline__ void update(float (&s)[kM][kN][4], float (&out)[kM][kOut][4],
                                         float scale_log2) {
    float correction[kM][2];
    bool moved = false;
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float largest = s[m][0][2 * half];
#pragma unroll
        for (int n = 0; n < kN; ++n) {
          largest = fmaxf(largest, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
        }
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2)) * scale_log2;
        const float before = reference[m][half];
        const bool grew = largest - before > kSlack;
        reference[m][half] = grew ? largest : before;
        correction[m][half] = grew ? fast_exp2(before - largest) : 1.0f;
        moved |= grew;
      }
    }
    if (__any_sync(0xffffffffu, moved)) rescale(out, correction);
    exponentiate(s, scale_log2);
  }

  template <int kOut>
  __device__ __forceinline__ void rescale(float (&out)[kM][kOut][4],
                                          const float (&correction)[kM][2]) {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      sum[m][0] *= correction[m][0];
      sum[m][1] *= correction[m][1];
#pragma unroll
      for (int n = 0; n < kOut; ++n) {
#pragma unroll
        for (int r = 0; r < 4; ++r) out[m][n][r] *= correction[m][r / 2];
      }
    }
  }

  template <int kN>
  __device__ __forceinline__ void exponentiate(float (&s)[kM][kN][4], float scale_log2) {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          s[m][n][r] = fast_exp2(fmaf(s[m][n][r], scale_log2, -reference[m][r / 2]));
          sum[m][r / 2] += s[m][n][r];
        }
      }
    }
  }
};

// Scores above the diagonal become -infinity. `row` is the key position that the lane's first
// accumulator row may see last, `column` the key of its first accumulator column.
template <int kM, int kN>
__device__ __forceinline__ void mask_scores(float (&s)[kM][kN][4], int row, int column) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        if (column + 8 * n + r % 2 > row + 16 * m + 8 * (r / 2)) s[m][n][r] = -INFINITY;
      }
    }
  }
}

// One warp's work on one key tile: scores, softmax, weighted values.
template <typename T, typename Tile>
struct ForwardWarp {
  static constexpr int kKeys = Tile::kBlockK / 8;
  static constexpr bool kKeepQuery = Tile::kD <= 64;  // q fragments stay in registers
  static constexpr int kKept = kKeepQuery ? Tile::kD / 16 : 1;

  std::uint32_t query_address;
  std::uint32_t query[kKept][Tile::kM][4];
  float out[Tile::kM][Tile::kChunks][4];
  OnlineSoftmax<Tile::kM> softmax;

  __device__ __forceinline__ void load_query(std::uint32_t (&a)[Tile::kM][4], int k16) const {
#pragma unroll
    for (int m = 0; m < Tile::kM; ++m) {
      load_matrices(a[m], TileLayout<Tile::kChunks>::moved(query_address, 16 * m, 2 * k16));
    }
  }

  __device__ __forceinline__ void begin(std::uint32_t q_rows, int lane) {
    query_address = q_rows + TileLayout<Tile::kChunks>::offset(operand_a(lane));
    if constexpr (kKeepQuery) {
#pragma unroll
      for (int k16 = 0; k16 < kKept; ++k16) load_query(query[k16], k16);
    }
#pragma unroll
    for (int m = 0; m < Tile::kM; ++m) {
#pragma unroll
      for (int n = 0; n < Tile::kChunks; ++n) {
#pragma unroll
        for (int r = 0; r < 4; ++r) out[m][n][r] = 0.0f;
      }
    }
  }

  __device__ __forceinline__ void scores(float (&s)[Tile::kM][kKeys][4], std::uint32_t k_lane) {
#pragma unroll
    for (int k16 = 0; k16 < Tile::kD / 16; ++k16) {
      if constexpr (kKeepQuery) {
        multiply_tile<T, Tile::kChunks>(s, query[k16], k_lane, k16);
      } else {
        load_query(query[0], k16);
        multiply_tile<T, Tile::kChunks>(s, query[0], k_lane, k16);
      }
    }
  }

  // last_seen: the key position that the warp's first row sees last; keys: the tile's first key.
  __device__ __forceinline__ void step(std::uint32_t k_tile, std::uint32_t v_tile, int last_seen,
                                       int keys, int lane, float scale_log2) {
    float s[Tile::kM][kKeys][4] = {};
    scores(s, k_tile + TileLayout<Tile::kChunks>::offset(operand_b(lane)));
    if (keys + Tile::kBlockK - 1 > last_seen) {
      mask_scores(s, last_seen + accumulator_row(lane, 0), keys + accumulator_column(lane, 0));
    }
    softmax.update(s, out, scale_log2);
    const std::uint32_t v_lane =
        v_tile + TileLayout<Tile::kChunks>::offset(operand_b_transposed(lane));
    std::uint32_t weights[Tile::kM][kKeys / 2][4];
    pack_operand<T>(weights, s);
#pragma unroll
    for (int k16 = 0; k16 < kKeys / 2; ++k16) {
      std::uint32_t a[Tile::kM][4];
#pragma unroll
      for (int m = 0; m < Tile::kM; ++m) {
#pragma unroll
        for (int r = 0; r < 4; ++r) a[m][r] = weights[m][k16][r];
      }
      multiply_tile_transposed<T, Tile::kChunks>(out, a, v_lane, k16);
    }
  }

  // Divides by the softmax denominator and writes lse for the valid rows.
  __device__ __forceinline__ void finish(float* lse, int rows_valid, int lane) {
#pragma unroll
    for (int m = 0; m < Tile::kM; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float sum = softmax.sum[m][half];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        const float inverse = 1.0f / sum;
#pragma unroll
        for (int n = 0; n < Tile::kChunks; ++n) {
          out[m][n][2 * half] *= inverse;
          out[m][n][2 * half + 1] *= inverse;
        }
        const int row = 16 * m + accumulator_row(lane, 2 * half);
        if (lse != nullptr && lane % 4 == 0 && row < rows_valid) {
          lse[row] = softmax.reference[m][half] * kLn2 + logf(sum);
        }
      }
    }
  }
};

// grid: (query blocks, heads, batch); the longest blocks start first.
template <typename T, typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 2) forward_kernel(const ForwardParams<T> p) {
  extern __shared__ __align__(128) unsigned char attention_shared[];
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int q_begin = static_cast<int>(gridDim.x - 1 - blockIdx.x) * Tile::kBlockQ;
  const int q_rows = min(Tile::kBlockQ, p.q_len - q_begin);
  const int head = static_cast<int>(blockIdx.y);
  const int kv_head = head / p.heads_per_kv;
  const std::int64_t q_row = static_cast<std::int64_t>(blockIdx.z) * p.q_len + q_begin;
  const std::int64_t kv_row = static_cast<std::int64_t>(blockIdx.z) * p.kv_rows;
  const int tiles = ceil_div(p.q_offset + q_begin + q_rows, Tile::kBlockK);

  const std::uint32_t q_tile = shared_address(attention_shared);
  const std::uint32_t kv_tiles = q_tile + Tile::kQBytes;  // k 0, v 0, k 1, v 1
  const auto load_keys = [&](int tile) {
    const std::uint32_t to = kv_tiles + tile % 2 * 2 * Tile::kKvBytes;
    const int first = tile * Tile::kBlockK;
    load_tile<Tile::kBlockK, Tile::kChunks, Tile::kThreads>(
        to, p.k.row(kv_row + first, kv_head, p.head_dim), p.k.stride, p.kv_len - first, p.head_dim);
    load_tile<Tile::kBlockK, Tile::kChunks, Tile::kThreads>(
        to + Tile::kKvBytes, p.v.row(kv_row + first, kv_head, p.head_dim), p.v.stride,
        p.kv_len - first, p.head_dim);
    copy_async_commit();
  };
  load_tile<Tile::kBlockQ, Tile::kChunks, Tile::kThreads>(q_tile, p.q.row(q_row, head, p.head_dim),
                                                          p.q.stride, q_rows, p.head_dim);
  load_keys(0);
  copy_async_wait<0>();
  __syncthreads();

  const int warp_begin = warp * Tile::kWarpRows;
  const int last_seen = p.q_offset + q_begin + warp_begin;
  const std::uint32_t own_rows = q_tile + warp_begin * Tile::kD * sizeof(T);
  ForwardWarp<T, Tile> work;
  work.begin(own_rows, lane);
  for (int tile = 0; tile < tiles; ++tile) {
    // After this barrier the tile is there, and no warp still reads the other buffer.
    copy_async_wait<0>();
    __syncthreads();
    if (tile + 1 < tiles) load_keys(tile + 1);
    const int keys = tile * Tile::kBlockK;
    if (warp_begin < q_rows && keys < last_seen + Tile::kWarpRows) {
      const std::uint32_t k_tile = kv_tiles + tile % 2 * 2 * Tile::kKvBytes;
      work.step(k_tile, k_tile + Tile::kKvBytes, last_seen, keys, lane, p.scale_log2);
    }
  }
  const int rows_valid = q_rows - warp_begin;
  float* lse = p.lse == nullptr
                   ? nullptr
                   : p.lse + (blockIdx.z * static_cast<std::int64_t>(p.heads) + head) * p.q_len +
                         q_begin + warp_begin;
  work.finish(lse, rows_valid, lane);
  store_rows(p.out.row(q_row + warp_begin, head, p.head_dim), p.out.stride, rows_valid, p.head_dim,
             work.out, own_rows);
}

template <typename T>
void launch_forward(const AttentionForward& args, Stream& stream) {
  const AttentionShape& s = args.shape;
  const auto rows = [](const Tensor& x) { return HeadRows<const T>{x.as<T>(), x.row_stride}; };
  const ForwardParams<T> params{.out = {args.out.as<T>(), args.out.row_stride},
                                .lse = args.lse ? args.lse.as<float>() : nullptr,
                                .q = rows(args.q),
                                .k = rows(args.k),
                                .v = rows(args.v),
                                .q_len = static_cast<int>(s.q_len),
                                .kv_len = static_cast<int>(s.kv_len),
                                .kv_rows = static_cast<int>(s.kv_rows),
                                .q_offset = static_cast<int>(s.q_offset),
                                .heads = static_cast<int>(s.heads),
                                .heads_per_kv = static_cast<int>(s.heads / s.kv_heads),
                                .head_dim = static_cast<int>(s.head_dim),
                                .scale_log2 = kLog2e / std::sqrt(static_cast<float>(s.head_dim))};
  with_padded_head_dim(s.head_dim, [&](auto head_dim) {
    using Tile = ForwardTile<head_dim()>;
    const dim3 grid(static_cast<unsigned>(ceil_div(params.q_len, Tile::kBlockQ)),
                    static_cast<unsigned>(s.heads), static_cast<unsigned>(s.batch));
    launch_attention(forward_kernel<T, Tile>, grid, Tile::kThreads, Tile::kSharedBytes, stream,
                     params);
  });
}

}  // namespace

void attention_forward_mma(const AttentionForward& args, Stream& stream) {
  if (args.q.dtype == DType::kBF16) {
    launch_forward<bf16>(args, stream);
  } else {
    launch_forward<f16>(args, stream);
  }
}

}  // namespace lockstep::cuda
