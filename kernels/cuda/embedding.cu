// Token and position embeddings. Backward has no atomics: rows are sorted by token (stable), then
// one block owns each run of equal tokens and is the only writer of that row of the gradient.
//
// Legend: N = B*T rows, C channels. Bytes forward: (read a row of each table, write out)
// sizeof(T) N C. Bytes backward: dout is read once for tokens and once for positions.
#include "kernels/cuda/check.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/positions.cuh"
#include "kernels/cuda/vec.cuh"

#include <cub/device/device_radix_sort.cuh>

#include <algorithm>
#include <bit>

namespace lockstep::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kUnroll = 4;  // rows in flight per warp

// Formula: out[r] = tokens_table[tokens[r]] + positions_table[positions[r], or offset + r % T].
// Block: up to 256 threads over the packs of one row. Grid: N.
template <typename T, int W>
__global__ __launch_bounds__(kThreads) void embed_kernel(T* out, const std::int32_t* tokens,
                                                         const T* token_table,
                                                         const T* position_table,
                                                         RowPositions positions, int cols) {
  const std::int64_t row = blockIdx.x;
  const T* token_row = token_table + std::int64_t{tokens[row]} * cols;
  const T* position_row =
      position_table != nullptr ? position_table + positions.of(row) * cols : nullptr;
  for (int c = static_cast<int>(threadIdx.x) * W; c < cols; c += static_cast<int>(blockDim.x) * W) {
    float sum[W], position[W] = {};
    Pack<T, W>::load(token_row + c).unpack(sum);
    if (position_row != nullptr) Pack<T, W>::load(position_row + c).unpack(position);
#pragma unroll
    for (int i = 0; i < W; ++i) sum[i] += position[i];
    Pack<T, W>::from(sum).store(out + row * cols + c);
  }
}

__global__ void iota_kernel(std::int32_t* rows, std::int64_t count) {
  const std::int64_t i = blockIdx.x * std::int64_t{kThreads} + threadIdx.x;
  if (i < count) rows[i] = static_cast<std::int32_t>(i);
}

// Formula: dtable[token] += sum of dout[r] over the rows of a run, warp w of the block taking the
// run's rows w, w + 8, ... in order, then warps 0..7 in order. Grid: N; a block whose position does
// not start a run returns. Block: 8 warps, each over 32 W columns at a time.
template <typename T, int W>
__global__ __launch_bounds__(kThreads) void token_grad_kernel(float* dtable,
                                                              const std::int32_t* tokens,
                                                              const std::int32_t* rows,
                                                              const T* dout, std::int64_t count,
                                                              int cols) {
  const std::int64_t start = blockIdx.x;
  const std::int32_t token = tokens[start];
  if (start > 0 && tokens[start - 1] == token) return;
  __shared__ float shared[kWarps][32 * W];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  for (int c0 = 0; c0 < cols; c0 += 32 * W) {
    const int col = c0 + lane * W;
    float sum[W] = {};
    for (std::int64_t i0 = start + warp; i0 < count && tokens[i0] == token;
         i0 += kWarps * kUnroll) {
      Pack<T, W> packs[kUnroll];
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        const std::int64_t i = i0 + u * kWarps;
        const bool mine = col < cols && i < count && tokens[i] == token;
        packs[u] =
            mine ? Pack<T, W>::load(dout + std::int64_t{rows[i]} * cols + col) : Pack<T, W>{};
      }
#pragma unroll
      for (int u = 0; u < kUnroll; ++u) {
        float values[W];
        packs[u].unpack(values);
#pragma unroll
        for (int i = 0; i < W; ++i) sum[i] += values[i];
      }
    }
#pragma unroll
    for (int i = 0; i < W; ++i) shared[warp][i * 32 + lane] = sum[i];
    __syncthreads();
    for (int at = static_cast<int>(threadIdx.x); at < 32 * W; at += kThreads) {
      const int c = c0 + at % 32 * W + at / 32;
      float total = 0.0f;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) total += shared[w][at];
      if (c < cols) dtable[std::int64_t{token} * cols + c] += total;
    }
    __syncthreads();
  }
}

// Formula: dtable[p] += sum over sequences b of dout[b T + p], b ascending. Block: 256 threads, a
// pack of columns each. Grid: T C / (256 W).
template <typename T, int W>
__global__ __launch_bounds__(kThreads) void position_grad_kernel(float* dtable, const T* dout,
                                                                 std::int64_t count,
                                                                 std::int64_t seq_len, int cols) {
  const std::int64_t at = (blockIdx.x * std::int64_t{kThreads} + threadIdx.x) * W;
  const std::int64_t sequence = seq_len * cols;  // elements of one sequence, contiguous in dout
  const std::int64_t elements = count * cols;
  if (at >= sequence) return;
  float sum[W] = {};
#pragma unroll 8
  for (std::int64_t i = at; i < elements; i += sequence) {
    float values[W];
    Pack<T, W>::load(dout + i).unpack(values);
#pragma unroll
    for (int j = 0; j < W; ++j) sum[j] += values[j];
  }
#pragma unroll
  for (int j = 0; j < W; ++j) dtable[at + j] += sum[j];
}

// The scratch of embedding_backward: the row numbers, the sorted tokens and rows, and the sort's
// own working space.
struct SortBuffers {
  std::int32_t* rows;
  std::int32_t* sorted_tokens;
  std::int32_t* sorted_rows;
  void* work;
  std::size_t work_bytes;
};

constexpr std::size_t kSortAlignment = 256;

std::size_t index_bytes(std::int64_t rows) {
  const auto bytes = static_cast<std::size_t>(rows) * sizeof(std::int32_t);
  return (bytes + kSortAlignment - 1) / kSortAlignment * kSortAlignment;
}

// The sort keeps a copy of keys and values, and counters per tile.
std::size_t sort_work_bytes(std::int64_t rows) {
  return 4 * index_bytes(rows) + (std::size_t{2} << 20);
}

SortBuffers sort_buffers(const Tensor& scratch, std::int64_t rows) {
  const std::size_t array = index_bytes(rows);
  CHECK(scratch.bytes() > 3 * array, "scratch of {} bytes", scratch.bytes());
  auto* base = static_cast<std::byte*>(scratch.data);
  return {.rows = reinterpret_cast<std::int32_t*>(base),
          .sorted_tokens = reinterpret_cast<std::int32_t*>(base + array),
          .sorted_rows = reinterpret_cast<std::int32_t*>(base + 2 * array),
          .work = base + 3 * array,
          .work_bytes = scratch.bytes() - 3 * array};
}

// Tokens are non-negative, so only the bits that a token below `vocab` can have are compared.
void sort_by_token(const SortBuffers& buffers, const std::int32_t* tokens, std::int64_t count,
                   std::int64_t vocab, cudaStream_t stream) {
  const auto blocks = static_cast<unsigned>(ceil_div(count, kThreads));
  iota_kernel<<<blocks, kThreads, 0, stream>>>(buffers.rows, count);
  check_launch("iota");
  const auto* keys = reinterpret_cast<const std::uint32_t*>(tokens);
  auto* sorted = reinterpret_cast<std::uint32_t*>(buffers.sorted_tokens);
  const int bits =
      std::max(1, static_cast<int>(std::bit_width(static_cast<std::uint64_t>(vocab - 1))));
  const auto items = static_cast<int>(count);
  std::size_t needed = 0;
  check(cub::DeviceRadixSort::SortPairs(nullptr, needed, keys, sorted, buffers.rows,
                                        buffers.sorted_rows, items, 0, bits, stream),
        "sort by token");
  CHECK(needed <= buffers.work_bytes, "the sort needs {} bytes of {}", needed, buffers.work_bytes);
  check(cub::DeviceRadixSort::SortPairs(buffers.work, needed, keys, sorted, buffers.rows,
                                        buffers.sorted_rows, items, 0, bits, stream),
        "sort by token");
}

template <typename T, int W>
void launch_forward(const EmbeddingForward& args, Stream& stream) {
  const auto cols = static_cast<int>(args.out.cols());
  const std::int64_t threads = std::min<std::int64_t>(kThreads, ceil_div(cols, 32 * W) * 32);
  embed_kernel<T, W>
      <<<static_cast<unsigned>(args.out.rows()), static_cast<unsigned>(threads), 0,
         native(stream)>>>(data_of<T>(args.out), data_of<const std::int32_t>(args.tokens),
                           data_of<const T>(args.token_table.data),
                           data_of<const T>(args.position_table), row_positions(args), cols);
  check_launch("embedding_forward");
}

template <typename T, int W>
void launch_backward(const EmbeddingBackward& args, const SortBuffers& sorted, Stream& stream) {
  const auto cols = static_cast<int>(args.dout.cols());
  const std::int64_t count = args.tokens.count();
  const T* dout = data_of<const T>(args.dout);
  token_grad_kernel<T, W><<<static_cast<unsigned>(count), kThreads, 0, native(stream)>>>(
      data_of<float>(args.dtoken_table), sorted.sorted_tokens, sorted.sorted_rows, dout, count,
      cols);
  check_launch("embedding token gradient");
  if (!args.dposition_table) return;
  const std::int64_t positions = std::min(args.seq_len, count);
  const auto blocks = static_cast<unsigned>(ceil_div(positions * cols, kThreads * W));
  position_grad_kernel<T, W><<<blocks, kThreads, 0, native(stream)>>>(
      data_of<float>(args.dposition_table), dout, count, args.seq_len, cols);
  check_launch("embedding position gradient");
}

}  // namespace

void embedding_forward(const EmbeddingForward& args, Stream& stream) {
  if (args.out.count() == 0) return;
  const bool vectors = fits_vectors(args.out) && fits_vectors(args.token_table.data) &&
                       fits_vectors(args.position_table);
  with_type(args.out.dtype, [&](auto type) {
    using T = decltype(type);
    if (vectors) {
      launch_forward<T, kVec<T>>(args, stream);
    } else {
      launch_forward<T, 1>(args, stream);
    }
  });
}

void embedding_backward(const EmbeddingBackward& args, Stream& stream) {
  if (args.dout.count() == 0) return;
  const SortBuffers buffers = sort_buffers(args.scratch, args.tokens.count());
  sort_by_token(buffers, data_of<const std::int32_t>(args.tokens), args.tokens.count(),
                args.dtoken_table.rows(), native(stream));
  with_type(args.dout.dtype, [&](auto type) {
    using T = decltype(type);
    if (fits_vectors(args.dout)) {
      launch_backward<T, kVec<T>>(args, buffers, stream);
    } else {
      launch_backward<T, 1>(args, buffers, stream);
    }
  });
}

std::size_t embedding_scratch_bytes(std::int64_t rows) {
  return rows == 0 ? 0 : 3 * index_bytes(rows) + sort_work_bytes(rows);
}

}  // namespace lockstep::cuda
