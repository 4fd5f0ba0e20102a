// Causal attention backward on tensor cores, in one pass over (key block, query tile) pairs:
//   p = exp(q k^T / sqrt(D) - lse),  delta = rowsum(dout * out),  ds = p * (dout v^T - delta),
//   dv = p^T dout,  dk = ds^T q / sqrt(D),  dq = ds k / sqrt(D).
// A block of 4 warps owns one key block of one k/v head and walks over the query tiles that see it,
// for every query head of the group: dk and dv stay in registers and are stored once. Scores are
// kept transposed (keys are rows), so that p^T and ds^T become tensor-core operands without leaving
// registers; only dq needs ds through shared memory.
// dq is summed over key blocks in one fixed order, from the diagonal down to key 0: each block adds
// to an fp32 partial in scratch when the flag of the query tile says that its turn has come, and
// the last one rounds and stores dq. A block waits only for blocks that drew an earlier ticket, so
// a waiting block can never keep out the one it waits for. All blocks of a head walk diagonally
// over the tiles, each two or more tiles behind its predecessor: waits are rare.
// Moves q, dout once per key block, the fp32 partial twice per pair (both mostly in L2).
#include "kernels/cuda/attention_backward_block.cuh"
#include "kernels/cuda/attention_launch.cuh"

#include <cmath>

namespace lockstep::cuda {
namespace {

// This warp's quarter of a dq tile: kDqM fragments of rows, kDqN chunks of columns.
template <typename T, typename Tile>
struct QueryGradient {
  static constexpr int kElements = Tile::kDqM * Tile::kDqN;  // float4 per thread
  float4 before[kElements];                                  // the sum of earlier key blocks
  float dq[Tile::kDqM][Tile::kDqN][4];

  __device__ __forceinline__ static int first_row() {
    return static_cast<int>(threadIdx.x) / kWarpSize % Tile::kDqWarpRows * Tile::kDqM * 16;
  }
  __device__ __forceinline__ static int first_chunk() {
    return static_cast<int>(threadIdx.x) / kWarpSize / Tile::kDqWarpRows * Tile::kDqN;
  }

  // A tile's partial lies in register order, so that every access is a coalesced 16 bytes.
  __device__ __forceinline__ static float4* partial(const BackwardParams<T>& p, std::int64_t flag) {
    return reinterpret_cast<float4*>(p.partials) + flag * (kElements * Tile::kThreads) +
           threadIdx.x;
  }

  // Reads around L1, which other blocks' writes do not reach.
  __device__ __forceinline__ void load_before(const float4* from) {
#pragma unroll
    for (int i = 0; i < kElements; ++i) before[i] = __ldcg(from + i * Tile::kThreads);
  }

  // dq = ds k over the block's keys that this tile sees.
  __device__ __forceinline__ void compute(const BackwardShared<Tile>& shared, int keys_seen) {
    using DsRows = TileLayout<Tile::kBlockQ / 8>;
    using Rows = TileLayout<Tile::kChunks>;
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    const TileCoord a = operand_a_transposed(lane);
    const TileCoord b = operand_b_transposed(lane);
    const std::uint32_t a_lane = shared.ds() + DsRows::offset({a.row, a.chunk + first_row() / 8});
    const std::uint32_t b_lane = shared.k() + Rows::offset({b.row, b.chunk + first_chunk()});
    static_assert(Rows::moved(Rows::offset({0, Tile::kDqN + 1}), 0, Tile::kDqN - 2) ==
                      Rows::offset({0, 2 * Tile::kDqN - 1}) ||
                  Tile::kDqWarpColumns == 1);
#pragma unroll
    for (int m = 0; m < Tile::kDqM; ++m) {
#pragma unroll
      for (int n = 0; n < Tile::kDqN; ++n) {
#pragma unroll
        for (int r = 0; r < 4; ++r) dq[m][n][r] = 0.0f;
      }
    }
    const auto step = [&](int k16) {
      std::uint32_t operand[Tile::kDqM][4];
#pragma unroll
      for (int m = 0; m < Tile::kDqM; ++m) {
        load_matrices_transposed(operand[m], DsRows::moved(a_lane, 16 * k16, 2 * m));
      }
      multiply_tile_transposed<T, Tile::kChunks>(dq, operand, b_lane, k16);
    };
    if (keys_seen >= Tile::kBlockK) {
#pragma unroll
      for (int k16 = 0; k16 < Tile::kBlockK / 16; ++k16) step(k16);
    } else {
#pragma unroll 1
      for (int k16 = 0; 16 * k16 < keys_seen; ++k16) step(k16);
    }
  }

  __device__ __forceinline__ void add_before() {
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      float(&sum)[4] = dq[i / Tile::kDqN][i % Tile::kDqN];
      sum[0] += before[i].x;
      sum[1] += before[i].y;
      sum[2] += before[i].z;
      sum[3] += before[i].w;
    }
  }

  __device__ __forceinline__ void store_partial(float4* to) const {
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      const float(&sum)[4] = dq[i / Tile::kDqN][i % Tile::kDqN];
      __stcg(to + i * Tile::kThreads, make_float4(sum[0], sum[1], sum[2], sum[3]));
    }
  }

  __device__ __forceinline__ void store_final(const BackwardParams<T>& p, int batch,
                                              Visit visit) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    const int first_column = first_chunk() * 8 + accumulator_column(lane, 0);
#pragma unroll
    for (int m = 0; m < Tile::kDqM; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int row =
            visit.tile * Tile::kBlockQ + first_row() + 16 * m + accumulator_row(lane, 2 * half);
        if (row >= p.length) continue;
        T* out =
            p.dq.row(static_cast<std::int64_t>(batch) * p.length + row, visit.head, p.head_dim);
#pragma unroll
        for (int n = 0; n < Tile::kDqN; ++n) {
          const int column = first_column + 8 * n;
          if (column < p.head_dim) {
            *reinterpret_cast<std::uint32_t*>(out + column) =
                pack<T>(dq[m][n][2 * half] * p.scale, dq[m][n][2 * half + 1] * p.scale);
          }
        }
      }
    }
  }
};

// Where a block stands among those that add to one query tile: turn 0 begins at the diagonal.
template <typename Tile>
struct Turn {
  std::int64_t flag;  // index of the tile's flag and partial
  int turn;
  bool last;

  template <typename T>
  __device__ __forceinline__ Turn(const BackwardParams<T>& p, const KeyBlock<Tile>& block,
                                  Visit visit) {
    const int diagonal = ((visit.tile + 1) * Tile::kBlockQ - 1) / Tile::kBlockK;
    flag = (static_cast<std::int64_t>(block.batch) * p.heads + visit.head) * p.query_tiles +
           visit.tile;
    turn = min(diagonal, p.key_blocks - 1) - block.index;
    last = block.index == 0;
  }
};

// Adds ds k to the tile's dq. Two barriers surround it: the caller's before and after.
template <typename T, typename Tile>
__device__ __forceinline__ void add_query_gradient(const BackwardParams<T>& p,
                                                   const BackwardShared<Tile>& shared,
                                                   const KeyBlock<Tile>& block, Visit visit,
                                                   const Turn<Tile>& turn) {
  QueryGradient<T, Tile> gradient;
  float4* partial = gradient.partial(p, turn.flag);
  if (turn.turn > 0) gradient.load_before(partial);
  gradient.compute(shared, (visit.tile + 1) * Tile::kBlockQ - block.first_key);
  if (turn.turn > 0) gradient.add_before();
  if (turn.last) {
    gradient.store_final(p, block.batch, visit);
  } else {
    gradient.store_partial(partial);
  }
}

template <typename T, typename Tile>
__device__ __forceinline__ void store_key_gradients(const BackwardParams<T>& p,
                                                    const BackwardShared<Tile>& shared,
                                                    const KeyBlock<Tile>& block,
                                                    BackwardWarp<T, Tile>& work) {
  const std::int64_t row = static_cast<std::int64_t>(block.batch) * p.length + work.first_key;
  const int valid = p.length - work.first_key;
  const int own = (work.first_key - block.first_key) * Tile::kD * static_cast<int>(sizeof(T));
  store_rows(p.dv.row(row, block.kv_head, p.head_dim), p.dv.stride, valid, p.head_dim, work.dv,
             shared.v() + own);
#pragma unroll
  for (int m = 0; m < Tile::kM; ++m) {
#pragma unroll
    for (int n = 0; n < Tile::kChunks; ++n) {
#pragma unroll
      for (int r = 0; r < 4; ++r) work.dk[m][n][r] *= p.scale;
    }
  }
  store_rows(p.dk.row(row, block.kv_head, p.head_dim), p.dk.stride, valid, p.head_dim, work.dk,
             shared.k() + own);
}

// Draws the block's number. Blocks that start later draw later ones, whatever their blockIdx.
__device__ __forceinline__ int draw_ticket(std::int32_t* counter, std::int32_t* mailbox) {
  if (threadIdx.x == 0) *mailbox = atomicAdd(counter, 1);
  __syncthreads();
  return *mailbox;
}

// grid: batch * kv_heads * key_blocks.
template <typename T, typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, 2) backward_kernel(const BackwardParams<T> p) {
  extern __shared__ __align__(128) unsigned char attention_shared[];
  const BackwardShared<Tile> shared{shared_address(attention_shared)};
  const KeyBlock<Tile> block(
      p, draw_ticket(p.ticket, reinterpret_cast<std::int32_t*>(
                                   attention_shared + Tile::kSharedBytes - Tile::kTicketBytes)));
  const std::int64_t k_row = static_cast<std::int64_t>(block.batch) * p.length + block.first_key;
  const int keys_valid = p.length - block.first_key;
  load_tile<Tile::kBlockK, Tile::kChunks, Tile::kThreads>(
      shared.k(), p.k.row(k_row, block.kv_head, p.head_dim), p.k.stride, keys_valid, p.head_dim);
  load_tile<Tile::kBlockK, Tile::kChunks, Tile::kThreads>(
      shared.v(), p.v.row(k_row, block.kv_head, p.head_dim), p.v.stride, keys_valid, p.head_dim);
  load_visit(p, block.batch, block.visit(0), shared, 0);
  copy_async_commit();

  const bool speaker = threadIdx.x == 0;  // the thread that reads and raises flags
  BackwardWarp<T, Tile> work;
  work.begin(shared, block.first_key, static_cast<int>(threadIdx.x) / kWarpSize);
  std::int32_t* finished = nullptr;  // flag to raise once all threads' partials are written
  std::int32_t finished_turn = 0;
  const int visits = block.visits();
#pragma unroll 1
  for (int i = 0; i < visits; ++i) {
    const Visit visit = block.visit(i);
    const Turn<Tile> turn(p, block, visit);
    // After this barrier: the visit's tiles are there, the other stage and ds are free, and the
    // partial of the visit before is written.
    copy_async_wait<0>();
    __syncthreads();
    if (i + 1 < visits) {
      load_visit(p, block.batch, block.visit(i + 1), shared, (i + 1) % 2);
      copy_async_commit();
    }
    work.visit(shared, i % 2, visit.tile * Tile::kBlockQ, p.scale_log2);
    // Only now, when the partial of the visit before has long reached memory and raising is cheap.
    if (speaker && finished != nullptr) raise_flag(finished, finished_turn);
    if (speaker && turn.turn > 0) await_flag(p.flags + turn.flag, turn.turn);
    __syncthreads();  // ds is complete, and so is the partial of the blocks before
    add_query_gradient(p, shared, block, visit, turn);
    finished = turn.last ? nullptr : p.flags + turn.flag;
    finished_turn = turn.turn + 1;
  }
  __syncthreads();
  if (speaker && finished != nullptr) raise_flag(finished, finished_turn);
  store_key_gradients(p, shared, block, work);
}

// delta = rowsum(dout * out) per head, and zeros for `counters` (flags and ticket). A group of
// kLanes threads, one 16-byte chunk each, owns one head of one row.
template <typename T, int kLanes>
__global__ void __launch_bounds__(256)
    delta_kernel(float* delta, std::int32_t* counters, HeadRows<const T> dout,
                 HeadRows<const T> out, std::int64_t items, std::int64_t counter_count, int length,
                 int heads, int head_dim) {
  const std::int64_t thread = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t threads = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
  for (std::int64_t i = thread; i < counter_count; i += threads) counters[i] = 0;
  const std::int64_t item = thread / kLanes;  // row * heads + head
  const int lane = static_cast<int>(thread % kLanes);
  const std::int64_t row = item / heads;
  const int head = static_cast<int>(item % heads);
  float sum = 0.0f;
  if (item < items && lane * 8 < head_dim) {
    const uint4 a = *reinterpret_cast<const uint4*>(dout.row(row, head, head_dim) + lane * 8);
    const uint4 b = *reinterpret_cast<const uint4*>(out.row(row, head, head_dim) + lane * 8);
    const std::uint32_t pairs[4][2] = {{a.x, b.x}, {a.y, b.y}, {a.z, b.z}, {a.w, b.w}};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float2 x = unpack<T>(pairs[i][0]);
      const float2 y = unpack<T>(pairs[i][1]);
      sum = fmaf(x.x, y.x, sum);
      sum = fmaf(x.y, y.y, sum);
    }
  }
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (item < items && lane == 0) {
    delta[(row / length * heads + head) * length + row % length] = sum;
  }
}

// The parts of scratch, in bytes from its begin.
struct ScratchPlan {
  std::int64_t counter_count;  // the ticket, then the flags
  std::size_t counters, partials, total;
};

template <typename Tile>
ScratchPlan plan_scratch(const AttentionShape& s) {
  const auto align = [](std::size_t bytes) { return (bytes + 255) / 256 * 256; };
  const std::int64_t heads = s.batch * s.heads;
  const std::int64_t tiles = heads * ceil_div(static_cast<int>(s.q_len), Tile::kBlockQ);
  const bool one_block = s.kv_len <= Tile::kBlockK;  // dq needs no partials
  ScratchPlan plan;
  plan.counter_count = tiles + 1;
  plan.counters = align(static_cast<std::size_t>(heads * s.q_len) * sizeof(float));
  plan.partials =
      plan.counters + align(static_cast<std::size_t>(plan.counter_count) * sizeof(std::int32_t));
  plan.total = plan.partials;
  if (!one_block) {
    plan.total += static_cast<std::size_t>(tiles) * Tile::kBlockQ * Tile::kD * sizeof(float);
  }
  return plan;
}

template <typename T, int kLanes>
void launch_delta(const AttentionBackward& args, const BackwardParams<T>& params,
                  std::int64_t counter_count, Stream& stream) {
  constexpr int kThreads = 256;
  const std::int64_t items = args.shape.batch * args.shape.q_len * args.shape.heads;
  const std::int64_t blocks = (items * kLanes + kThreads - 1) / kThreads;
  launch_attention(delta_kernel<T, kLanes>, dim3(static_cast<unsigned>(blocks)), kThreads, 0,
                   stream, const_cast<float*>(params.delta), params.ticket, params.dout,
                   HeadRows<const T>{args.out.as<T>(), args.out.row_stride}, items, counter_count,
                   params.length, params.heads, params.head_dim);
}

template <typename T, typename Tile>
BackwardParams<T> backward_params(const AttentionBackward& args, const ScratchPlan& plan) {
  const AttentionShape& s = args.shape;
  const auto rows = [](const Tensor& x) { return HeadRows<T>{x.as<T>(), x.row_stride}; };
  const auto read = [](const Tensor& x) { return HeadRows<const T>{x.as<T>(), x.row_stride}; };
  auto* scratch = args.scratch.as<std::uint8_t>();
  auto* counters = reinterpret_cast<std::int32_t*>(scratch + plan.counters);
  const float scale = 1.0f / std::sqrt(static_cast<float>(s.head_dim));
  return {.dq = rows(args.dq),
          .dk = rows(args.dk),
          .dv = rows(args.dv),
          .dout = read(args.dout),
          .q = read(args.q),
          .k = read(args.k),
          .v = read(args.v),
          .lse = args.lse.as<float>(),
          .delta = reinterpret_cast<float*>(scratch),
          .partials = reinterpret_cast<float*>(scratch + plan.partials),
          .flags = counters + 1,
          .ticket = counters,
          .length = static_cast<int>(s.q_len),
          .heads = static_cast<int>(s.heads),
          .kv_heads = static_cast<int>(s.kv_heads),
          .head_dim = static_cast<int>(s.head_dim),
          .query_tiles = ceil_div(static_cast<int>(s.q_len), Tile::kBlockQ),
          .key_blocks = ceil_div(static_cast<int>(s.kv_len), Tile::kBlockK),
          .scale = scale,
          .scale_log2 = scale * kLog2e};
}

template <typename T>
void launch_backward(const AttentionBackward& args, Stream& stream) {
  const AttentionShape& s = args.shape;
  with_padded_head_dim(s.head_dim, [&](auto head_dim) {
    using Tile = BackwardTile<head_dim()>;
    const ScratchPlan plan = plan_scratch<Tile>(s);
    CHECK(args.scratch.bytes() >= plan.total, "attention: scratch has {} of {} bytes",
          args.scratch.bytes(), plan.total);
    const auto params = backward_params<T, Tile>(args, plan);
    constexpr int kLanes = head_dim() == 32 ? 4 : head_dim() == 64 ? 8 : 16;
    launch_delta<T, kLanes>(args, params, plan.counter_count, stream);
    const auto blocks = static_cast<unsigned>(s.batch * s.kv_heads * params.key_blocks);
    launch_attention(backward_kernel<T, Tile>, dim3(blocks), Tile::kThreads, Tile::kSharedBytes,
                     stream, params);
  });
}

}  // namespace

void attention_backward_mma(const AttentionBackward& args, Stream& stream) {
  if (args.q.dtype == DType::kBF16) {
    launch_backward<bf16>(args, stream);
  } else {
    launch_backward<f16>(args, stream);
  }
}

std::size_t attention_scratch_bytes_mma(const AttentionShape& shape) {
  return with_padded_head_dim(shape.head_dim, [&](auto head_dim) {
    return plan_scratch<BackwardTile<head_dim()>>(shape).total;
  });
}

}  // namespace lockstep::cuda
