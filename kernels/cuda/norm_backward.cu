// LayerNorm and RMSNorm backward, with the residual stream's gradient added in the same pass.
// One read of dy, x and residual_grad gives dx; the weight and bias gradients collect in registers
// over all rows of a block, leave as one partial row per block, and columns.cu adds those in order.
//
// Legend: N rows, C channels. Formula, with h = (x - mean) rstd and g = dy weight:
//   dx = residual + rstd (g - mean_C(g) - h mean_C(g h)); RMSNorm has no mean_C(g) term.
//   dweight += sum_N dy h;  dbias += sum_N dy.
#include "kernels/cuda/check.cuh"
#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/norm_rows.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

#include <algorithm>

namespace lockstep::cuda {
namespace {

// Blocks per multiprocessor that the registers of a thread with `elements` columns allow.
constexpr int blocks_for(int elements) { return elements > 24 ? 1 : elements > 8 ? 2 : 3; }

template <typename T>
struct BackwardView {
  T* dx;              // (N, C)
  const T* dy;        // (N, C)
  const T* x;         // (N, C)
  const T* residual;  // (N, C) or null
  const T* weight;    // (C)
  const float* mean;  // (N), null for RMSNorm
  const float* rstd;  // (N)
  float* partials;    // (blocks, 2 C): dweight, dbias
  std::int64_t rows;
  int cols;
};

// What one thread holds of one row.
template <typename T, int kVecs>
struct RowPacks {
  using P = Pack<T, kVec<T>>;
  P x[kVecs], dy[kVecs], residual[kVecs];

  // Everything is requested before anything is used. Lanes past the end hold zeros.
  template <int kRowThreads>
  __device__ void load(const BackwardView<T>& view, std::int64_t row, int lane, bool active) {
#pragma unroll
    for (int v = 0; v < kVecs; ++v) {
      const int col = (v * kRowThreads + lane) * kVec<T>;
      const bool inside = active && col < view.cols;
      const std::int64_t at = row * view.cols + col;
      x[v] = inside ? P::load(view.x + at) : P{};
      dy[v] = inside ? P::load(view.dy + at) : P{};
      residual[v] = inside && view.residual != nullptr ? P::load(view.residual + at) : P{};
    }
  }
};

struct RowStatistics {
  float mean, rstd;
};

// A thread's share of the weight and bias gradients.
template <typename T, int kVecs>
struct ColumnSums {
  float dweight[kVecs][kVec<T>] = {};
  float dbias[kVecs][kVec<T>] = {};
};

// Adds the row to the column sums and returns this thread's part of (sum g, sum g h).
template <int kRowThreads, typename T, int kVecs>
__device__ float2 collect(ColumnSums<T, kVecs>& sums, const RowPacks<T, kVecs>& packs,
                          const BackwardView<T>& view, RowStatistics row, int lane) {
  constexpr int W = kVec<T>;
  float2 moments{0.0f, 0.0f};
#pragma unroll
  for (int v = 0; v < kVecs; ++v) {
    const int col = (v * kRowThreads + lane) * W;
    float x[W], dy[W], weight[W] = {};
    packs.x[v].unpack(x);
    packs.dy[v].unpack(dy);
    if (col < view.cols) Pack<T, W>::load(view.weight + col).unpack(weight);
#pragma unroll
    for (int i = 0; i < W; ++i) {
      const float h = (x[i] - row.mean) * row.rstd;
      const float g = dy[i] * weight[i];
      moments.x += g;
      moments.y += g * h;
      sums.dweight[v][i] += dy[i] * h;
      sums.dbias[v][i] += dy[i];
    }
  }
  return moments;
}

template <int kRowThreads, typename T, int kVecs>
__device__ void write_dx(const RowPacks<T, kVecs>& packs, const BackwardView<T>& view,
                         RowStatistics row, float2 means, std::int64_t index, int lane) {
  constexpr int W = kVec<T>;
#pragma unroll
  for (int v = 0; v < kVecs; ++v) {
    const int col = (v * kRowThreads + lane) * W;
    if (col >= view.cols) continue;
    float x[W], dy[W], weight[W], out[W];
    packs.x[v].unpack(x);
    packs.dy[v].unpack(dy);
    packs.residual[v].unpack(out);
    Pack<T, W>::load(view.weight + col).unpack(weight);
#pragma unroll
    for (int i = 0; i < W; ++i) {
      const float h = (x[i] - row.mean) * row.rstd;
      out[i] += row.rstd * (dy[i] * weight[i] - means.x - h * means.y);
    }
    Pack<T, W>::from(out).store(view.dx + index * view.cols + col);
  }
}

// The block's row groups add their column sums in shared memory, one group after the other, and the
// last group's total is the block's partial row.
template <int kRowThreads, typename T, int kVecs>
__device__ void write_partials(const ColumnSums<T, kVecs>& sums, const BackwardView<T>& view,
                               float* shared, int lane, int group) {
  constexpr int W = kVec<T>;
  constexpr int kGroups = kNormThreads / kRowThreads;
  float* partial = view.partials + blockIdx.x * std::int64_t{2} * view.cols;
  for (int g = 0; g < kGroups; ++g) {
    const bool last = g == kGroups - 1;
    float* to = last ? partial : shared;
    if (group == g) {
#pragma unroll
      for (int v = 0; v < kVecs; ++v) {
        const int col = (v * kRowThreads + lane) * W;
        if (col >= view.cols) continue;
#pragma unroll
        for (int i = 0; i < W; ++i) {
          const int w = col + i;
          const int b = view.cols + col + i;
          to[w] = sums.dweight[v][i] + (g > 0 ? shared[w] : 0.0f);
          to[b] = sums.dbias[v][i] + (g > 0 ? shared[b] : 0.0f);
        }
      }
    }
    __syncthreads();
  }
}

// Block: 256 threads = 256 / kRowThreads rows at a time. Grid: one to three blocks per
// multiprocessor, which walk the rows. Shared: 2 C floats where a block has several rows.
// Bytes: (read dy, x, residual; write dx) sizeof(T) N C, and 8 C per block.
template <typename T, int kRowThreads, int kVecs>
__global__ __launch_bounds__(kNormThreads, blocks_for(kVecs* kVec<T>)) void norm_backward_kernel(
    BackwardView<T> view) {
  extern __shared__ float column_shared[];
  __shared__ float2 sum_shared[2][kNormThreads / 32];
  constexpr int kGroups = kNormThreads / kRowThreads;
  const int lane = static_cast<int>(threadIdx.x) % kRowThreads;
  const int group = static_cast<int>(threadIdx.x) / kRowThreads;
  const float scale = 1.0f / static_cast<float>(view.cols);
  ColumnSums<T, kVecs> sums;
  int turn = 0;
  for (std::int64_t first = blockIdx.x * std::int64_t{kGroups}; first < view.rows;
       first += gridDim.x * std::int64_t{kGroups}) {
    const std::int64_t index = first + group;
    const bool active = index < view.rows;
    RowPacks<T, kVecs> packs;
    packs.template load<kRowThreads>(view, index, lane, active);
    RowStatistics row{0.0f, 0.0f};
    if (active) row = {view.mean != nullptr ? view.mean[index] : 0.0f, view.rstd[index]};
    const float2 part = collect<kRowThreads>(sums, packs, view, row, lane);
    const float2 moments = group_sum<kRowThreads>(part, sum_shared[turn]);
    const float2 means{view.mean != nullptr ? moments.x * scale : 0.0f, moments.y * scale};
    if (active) write_dx<kRowThreads>(packs, view, row, means, index, lane);
    turn ^= 1;
  }
  write_partials<kRowThreads>(sums, view, column_shared, lane, group);
}

// Any C, dx only: two passes over the row. Block: 256 threads. Grid: N.
template <typename T>
__global__ __launch_bounds__(kNormThreads) void norm_dx_any_kernel(BackwardView<T> view) {
  __shared__ float2 shared[kNormThreads / 32];
  const std::int64_t base = blockIdx.x * std::int64_t{view.cols};
  const float mean = view.mean != nullptr ? view.mean[blockIdx.x] : 0.0f;
  const float rstd = view.rstd[blockIdx.x];
  const float scale = 1.0f / static_cast<float>(view.cols);
  float2 part{0.0f, 0.0f};
  for (int c = threadIdx.x; c < view.cols; c += kNormThreads) {
    const float g = widen(view.dy[base + c]) * widen(view.weight[c]);
    part.x += g;
    part.y += g * (widen(view.x[base + c]) - mean) * rstd;
  }
  const float2 moments = group_sum<kNormThreads>(part, shared);
  const float mean_g = view.mean != nullptr ? moments.x * scale : 0.0f;
  const float mean_gh = moments.y * scale;
  for (int c = threadIdx.x; c < view.cols; c += kNormThreads) {
    const float h = (widen(view.x[base + c]) - mean) * rstd;
    const float g = widen(view.dy[base + c]) * widen(view.weight[c]);
    const float kept = view.residual != nullptr ? widen(view.residual[base + c]) : 0.0f;
    view.dx[base + c] = narrow<T>(kept + rstd * (g - mean_g - h * mean_gh));
  }
}

// Any C, column sums only. Block: 256 columns, one per thread. Grid: C / 256, bands of rows.
template <typename T>
__global__ __launch_bounds__(kNormThreads) void norm_columns_any_kernel(BackwardView<T> view,
                                                                        std::int64_t band_rows) {
  const int c = static_cast<int>(blockIdx.x) * kNormThreads + static_cast<int>(threadIdx.x);
  if (c >= view.cols) return;
  const std::int64_t begin = blockIdx.y * band_rows;
  const std::int64_t end = min(begin + band_rows, view.rows);
  float dweight = 0.0f, dbias = 0.0f;
  for (std::int64_t r = begin; r < end; ++r) {
    const float mean = view.mean != nullptr ? view.mean[r] : 0.0f;
    const float dy = widen(view.dy[r * view.cols + c]);
    dweight += dy * (widen(view.x[r * view.cols + c]) - mean) * view.rstd[r];
    dbias += dy;
  }
  float* partial = view.partials + blockIdx.y * std::int64_t{2} * view.cols;
  partial[c] = dweight;
  partial[view.cols + c] = dbias;
}

// Both return the number of partial rows written.
template <typename T>
std::int64_t launch_any(const BackwardView<T>& view, Stream& stream) {
  const std::int64_t band_rows = ceil_div(view.rows, std::min<std::int64_t>(view.rows, 64));
  const std::int64_t bands = ceil_div(view.rows, band_rows);
  const dim3 grid(static_cast<unsigned>(ceil_div(view.cols, kNormThreads)),
                  static_cast<unsigned>(bands));
  norm_columns_any_kernel<<<grid, kNormThreads, 0, native(stream)>>>(view, band_rows);
  check_launch("norm_columns");
  norm_dx_any_kernel<<<static_cast<unsigned>(view.rows), kNormThreads, 0, native(stream)>>>(view);
  check_launch("norm_dx");
  return bands;
}

template <typename T, typename Shape>
std::int64_t launch_rows(Shape, const BackwardView<T>& view, Stream& stream) {
  constexpr int kBlocks = blocks_for(Shape::kVecs * kVec<T>);
  const std::int64_t limit = kBlocks * context_of(stream).multiprocessors;
  const std::int64_t blocks =
      std::min({ceil_div(view.rows, Shape::kGroups), limit, kMaxPartialRows});
  const std::size_t shared =
      Shape::kGroups > 1 ? 2 * static_cast<std::size_t>(view.cols) * sizeof(float) : 0;
  norm_backward_kernel<T, Shape::kRowThreads, Shape::kVecs>
      <<<static_cast<unsigned>(blocks), kNormThreads, shared, native(stream)>>>(view);
  check_launch("norm_backward");
  return blocks;
}

template <typename T>
void launch(const NormBackward& args, Stream& stream) {
  const std::int64_t cols = args.x.cols();
  BackwardView<T> view{.dx = data_of<T>(args.dx),
                       .dy = data_of<const T>(args.dy),
                       .x = data_of<const T>(args.x),
                       .residual = data_of<const T>(args.residual_grad),
                       .weight = data_of<const T>(args.weight),
                       .mean = data_of<const float>(args.mean),
                       .rstd = data_of<const float>(args.rstd),
                       .partials = scratch_floats(args.scratch, kMaxPartialRows * 2 * cols),
                       .rows = args.x.rows(),
                       .cols = static_cast<int>(cols)};
  const bool vectors = fits_vectors(args.x) && fits_vectors(args.dx) && fits_vectors(args.dy) &&
                       fits_vectors(args.weight) && fits_vectors(args.residual_grad);
  std::int64_t partial_rows = 0;
  const bool done = vectors && with_row_shape<T>(cols, [&](auto shape) {
                      partial_rows = launch_rows<T>(shape, view, stream);
                    });
  if (!done) partial_rows = launch_any<T>(view, stream);
  // Partial rows always hold both halves; without a bias the second is not looked at.
  add_partial_rows(data_of<float>(args.dweight), data_of<float>(args.dbias), view.partials,
                   partial_rows, cols, 2 * cols, stream);
}

}  // namespace

void norm_backward(const NormBackward& args, Stream& stream) {
  if (args.x.count() == 0) return;
  with_type(args.x.dtype, [&](auto type) { launch<decltype(type)>(args, stream); });
}

}  // namespace lockstep::cuda
