// The key block of the backward kernel: tile sizes, parameters, the order in which it visits query
// tiles, its shared memory, and one warp's share of a visit (dk, dv and ds^T of the warp's keys).
// The formulas and the plan stand in attention_backward.cu.
#pragma once

#include "kernels/cuda/attention_tile.cuh"

#include <cmath>

namespace lockstep::cuda {

template <int kHeadDim>
struct BackwardTile {
  static constexpr int kD = kHeadDim;
  static constexpr int kChunks = kD / 8;
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kWarps * kWarpSize;
  static constexpr int kM = kD <= 64 ? 2 : 1;  // 16-key fragments per warp
  static constexpr int kWarpKeys = 16 * kM;
  static constexpr int kBlockK = kWarpKeys * kWarps;
  static constexpr int kBlockQ = kD <= 96 ? 64 : 32;
  static constexpr int kPart = 32;  // queries whose scores are in registers at a time
  // dq (kBlockQ x kD) is split over kDqWarpRows x kDqWarpColumns warps.
  static constexpr int kDqWarpColumns = kD == 96 ? 1 : 2;
  static constexpr int kDqWarpRows = kWarps / kDqWarpColumns;
  static constexpr int kDqM = kBlockQ / 16 / kDqWarpRows;
  static constexpr int kDqN = kChunks / kDqWarpColumns;
  static constexpr int kKvBytes = kBlockK * kD * 2;
  static constexpr int kQBytes = kBlockQ * kD * 2;
  static constexpr int kDsBytes = kBlockK * kBlockQ * 2;
  static constexpr int kRowBytes = kBlockQ * 4;                    // lse or delta of a tile
  static constexpr int kStageBytes = 2 * kQBytes + 2 * kRowBytes;  // q, dout, lse, delta
  static constexpr int kTicketBytes = 128;
  static constexpr int kSharedBytes = 2 * kKvBytes + kDsBytes + 2 * kStageBytes + kTicketBytes;
};

template <typename T>
struct BackwardParams {
  HeadRows<T> dq, dk, dv;
  HeadRows<const T> dout, q, k, v;
  const float* lse;      // (B, H, T)
  const float* delta;    // (B, H, T)
  float* partials;       // (B, H, query tiles, tile elements in register order)
  std::int32_t* flags;   // (B, H, query tiles): how many key blocks have added their part
  std::int32_t* ticket;  // the next block's number
  int length;            // T
  int heads, kv_heads, head_dim;
  int query_tiles, key_blocks;
  float scale, scale_log2;  // 1 / sqrt(head_dim), and times log2(e)
};

// One query tile of one head, as a key block meets it.
struct Visit {
  int head;
  int tile;
};

// A key block's place in the grid and the order of its visits: head by head, tiles ascending.
template <typename Tile>
struct KeyBlock {
  int batch, kv_head, index;  // index: which key block
  int first_key, first_tile;
  int heads_per_kv, tiles_per_head;

  template <typename T>
  __device__ __forceinline__ KeyBlock(const BackwardParams<T>& p, int ticket) {
    index = p.key_blocks - 1 - ticket % p.key_blocks;
    kv_head = ticket / p.key_blocks % p.kv_heads;
    batch = ticket / p.key_blocks / p.kv_heads;
    first_key = index * Tile::kBlockK;
    first_tile = first_key / Tile::kBlockQ;
    heads_per_kv = p.heads / p.kv_heads;
    tiles_per_head = p.query_tiles - first_tile;
  }
  __device__ __forceinline__ int visits() const { return heads_per_kv * tiles_per_head; }
  __device__ __forceinline__ Visit visit(int i) const {
    return {kv_head * heads_per_kv + i / tiles_per_head, first_tile + i % tiles_per_head};
  }
};

// The block's shared memory: addresses only.
template <typename Tile>
struct BackwardShared {
  std::uint32_t base;
  __device__ __forceinline__ std::uint32_t k() const { return base; }
  __device__ __forceinline__ std::uint32_t v() const { return base + Tile::kKvBytes; }
  __device__ __forceinline__ std::uint32_t ds() const { return base + 2 * Tile::kKvBytes; }
  __device__ __forceinline__ std::uint32_t q(int stage) const {
    return ds() + Tile::kDsBytes + stage * Tile::kStageBytes;
  }
  __device__ __forceinline__ std::uint32_t dout(int stage) const {
    return q(stage) + Tile::kQBytes;
  }
  __device__ __forceinline__ std::uint32_t lse(int stage) const {
    return q(stage) + 2 * Tile::kQBytes;
  }
  __device__ __forceinline__ std::uint32_t delta(int stage) const {
    return lse(stage) + Tile::kRowBytes;
  }
};

// Starts copying a visit's q, dout, lse and delta. Rows beyond T become zeros, which makes all
// their contributions zero: p = 1, but dout, delta and q vanish.
template <typename T, typename Tile>
__device__ __forceinline__ void load_visit(const BackwardParams<T>& p, int batch, Visit visit,
                                           const BackwardShared<Tile>& shared, int stage) {
  const int first = visit.tile * Tile::kBlockQ;
  const int valid = p.length - first;
  const std::int64_t row = static_cast<std::int64_t>(batch) * p.length + first;
  load_tile<Tile::kBlockQ, Tile::kChunks, Tile::kThreads>(
      shared.q(stage), p.q.row(row, visit.head, p.head_dim), p.q.stride, valid, p.head_dim);
  load_tile<Tile::kBlockQ, Tile::kChunks, Tile::kThreads>(shared.dout(stage),
                                                          p.dout.row(row, visit.head, p.head_dim),
                                                          p.dout.stride, valid, p.head_dim);
  static_assert(2 * Tile::kBlockQ <= Tile::kThreads);
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % Tile::kBlockQ;
  if (thread < 2 * Tile::kBlockQ) {
    const std::int64_t at =
        (static_cast<std::int64_t>(batch) * p.heads + visit.head) * p.length + first;
    const float* from = (thread < Tile::kBlockQ ? p.lse : p.delta) + at;
    copy_async_4(shared.lse(stage) + thread * 4, from + (lane < valid ? lane : 0), lane < valid);
  }
}

// a = the warp's fragments of a tile stored [m][k].
template <int kChunks, int kM>
__device__ __forceinline__ void load_operand(std::uint32_t (&a)[kM][4], std::uint32_t lane,
                                             int k16) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
    load_matrices(a[m], TileLayout<kChunks>::moved(lane, 16 * m, 2 * k16));
  }
}

// One warp's keys: the accumulators that live as long as the block, and the work on one visit.
template <typename T, typename Tile>
struct BackwardWarp {
  using Rows = TileLayout<Tile::kChunks>;        // q, k, v, dout
  using DsRows = TileLayout<Tile::kBlockQ / 8>;  // ds^T: a row per key
  static constexpr int kPartN = Tile::kPart / 8;

  float dk[Tile::kM][Tile::kChunks][4];
  float dv[Tile::kM][Tile::kChunks][4];
  int lane;
  int first_key;  // of this warp
  std::uint32_t k_lane, v_lane, ds_lane;

  __device__ __forceinline__ void begin(const BackwardShared<Tile>& shared, int block_key,
                                        int warp) {
    lane = static_cast<int>(threadIdx.x) % kWarpSize;
    first_key = block_key + warp * Tile::kWarpKeys;
    const std::uint32_t rows = warp * Tile::kWarpKeys;
    k_lane = shared.k() + rows * Rows::kRowBytes + Rows::offset(operand_a(lane));
    v_lane = shared.v() + rows * Rows::kRowBytes + Rows::offset(operand_a(lane));
    ds_lane = shared.ds() + rows * DsRows::kRowBytes +
              DsRows::offset({accumulator_row(lane, 0), 0}) +
              accumulator_column(lane, 0) * sizeof(T);
#pragma unroll
    for (int m = 0; m < Tile::kM; ++m) {
#pragma unroll
      for (int n = 0; n < Tile::kChunks; ++n) {
#pragma unroll
        for (int r = 0; r < 4; ++r) dk[m][n][r] = dv[m][n][r] = 0.0f;
      }
    }
  }

  // product += (rows of k or v) (rows of q or dout)^T for kPart queries.
  __device__ __forceinline__ void transposed_product(float (&product)[Tile::kM][kPartN][4],
                                                     std::uint32_t a_lane, std::uint32_t b_rows) {
    const std::uint32_t b_lane = b_rows + Rows::offset(operand_b(lane));
#pragma unroll
    for (int k16 = 0; k16 < Tile::kD / 16; ++k16) {
      std::uint32_t a[Tile::kM][4];
      load_operand<Tile::kChunks>(a, a_lane, k16);
      multiply_tile<T, Tile::kChunks>(product, a, b_lane, k16);
    }
  }

  // gradient += w (rows of dout or q) over kPart queries.
  __device__ __forceinline__ void accumulate(float (&gradient)[Tile::kM][Tile::kChunks][4],
                                             const std::uint32_t (&w)[Tile::kM][kPartN / 2][4],
                                             std::uint32_t b_rows) {
    const std::uint32_t b_lane = b_rows + Rows::offset(operand_b_transposed(lane));
#pragma unroll
    for (int k16 = 0; k16 < kPartN / 2; ++k16) {
      std::uint32_t a[Tile::kM][4];
#pragma unroll
      for (int m = 0; m < Tile::kM; ++m) {
#pragma unroll
        for (int r = 0; r < 4; ++r) a[m][r] = w[m][k16][r];
      }
      multiply_tile_transposed<T, Tile::kChunks>(gradient, a, b_lane, k16);
    }
  }

  // Scores of keys after their query become -infinity. `distance`: first query - first key.
  __device__ __forceinline__ void mask_scores(float (&s)[Tile::kM][kPartN][4], int distance) {
    const int seen = distance + accumulator_column(lane, 0) - accumulator_row(lane, 0);
#pragma unroll
    for (int m = 0; m < Tile::kM; ++m) {
#pragma unroll
      for (int n = 0; n < kPartN; ++n) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          if (16 * m + 8 * (r / 2) > seen + 8 * n + r % 2) s[m][n][r] = -INFINITY;
        }
      }
    }
  }

  // s: scores in, p out. dp: dout v^T in, ds out. `query`: position of the part's first query.
  __device__ __forceinline__ void differentiate(float (&s)[Tile::kM][kPartN][4],
                                                float (&dp)[Tile::kM][kPartN][4], int query,
                                                std::uint32_t lse, std::uint32_t delta,
                                                float scale_log2) {
    if (first_key + Tile::kWarpKeys - 1 > query) {
      mask_scores(s, query - first_key);
    }
#pragma unroll
    for (int n = 0; n < kPartN; ++n) {
      const int column = 8 * n + accumulator_column(lane, 0);
      const float2 row_lse = load_shared_float2(lse + column * 4);
      const float2 row_delta = load_shared_float2(delta + column * 4);
      const float bias[2] = {row_lse.x * -kLog2e, row_lse.y * -kLog2e};
#pragma unroll
      for (int m = 0; m < Tile::kM; ++m) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          const float p = fast_exp2(fmaf(s[m][n][r], scale_log2, bias[r % 2]));
          s[m][n][r] = p;
          dp[m][n][r] = p * (dp[m][n][r] - (r % 2 == 0 ? row_delta.x : row_delta.y));
        }
      }
    }
  }

  __device__ __forceinline__ void store_ds(const std::uint32_t (&ds)[Tile::kM][kPartN / 2][4],
                                           int part) {
#pragma unroll
    for (int m = 0; m < Tile::kM; ++m) {
#pragma unroll
      for (int n = 0; n < kPartN; ++n) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          store_shared(DsRows::moved(ds_lane, 16 * m + 8 * half, part * kPartN + n),
                       ds[m][n / 2][a_register(n, half)]);
        }
      }
    }
  }

  // Adds the visit's contributions to dk and dv, and leaves ds^T of the warp's keys in shared
  // memory. `query`: position of the tile's first query.
  __device__ __forceinline__ void visit(const BackwardShared<Tile>& shared, int stage, int query,
                                        float scale_log2) {
#pragma unroll 1
    for (int part = 0; part < Tile::kBlockQ / Tile::kPart; ++part) {
      const int offset = part * Tile::kPart;
      std::uint32_t ds[Tile::kM][kPartN / 2][4] = {};
      if (first_key < query + offset + Tile::kPart) {
        const std::uint32_t q = shared.q(stage) + offset * Rows::kRowBytes;
        const std::uint32_t dout = shared.dout(stage) + offset * Rows::kRowBytes;
        float s[Tile::kM][kPartN][4] = {};
        float dp[Tile::kM][kPartN][4] = {};
        transposed_product(s, k_lane, q);
        transposed_product(dp, v_lane, dout);
        differentiate(s, dp, query + offset, shared.lse(stage) + offset * 4,
                      shared.delta(stage) + offset * 4, scale_log2);
        std::uint32_t p[Tile::kM][kPartN / 2][4];
        pack_operand<T>(p, s);
        pack_operand<T>(ds, dp);
        accumulate(dv, p, dout);
        accumulate(dk, ds, q);
      }
      store_ds(ds, part);
    }
  }
};

}  // namespace lockstep::cuda
