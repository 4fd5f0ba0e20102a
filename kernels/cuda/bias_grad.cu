// The bias gradient beside a weight gradient: sums of dy over its rows, in fp32, in fixed order.
// Two stages: blocks sum bands of rows into partial rows, columns.cu adds those in order.
#include "kernels/cuda/check.cuh"
#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/gemm_parts.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

#include <algorithm>

namespace lockstep::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kUnroll = 8;  // loads in flight per thread

// Formula: partials[band, c] = sum over the band's rows r of x[r, c], x = dy (K, M).
// Block: 8 warps over 32 * W columns; warp w takes rows w, w + 8, ... of the band, then the warps
// are added in order. Grid: M / (32 W), bands. Bytes: sizeof(T) * K * M read, 4 M per band written.
template <typename T, int W>
__global__ __launch_bounds__(kThreads) void column_bands_kernel(float* partials, const T* x,
                                                                std::int64_t rows,
                                                                std::int64_t cols,
                                                                std::int64_t stride,
                                                                std::int64_t band_rows) {
  __shared__ float shared[kWarps][32 * W];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t col = (blockIdx.x * std::int64_t{32} + lane) * W;
  const std::int64_t begin = blockIdx.y * band_rows;
  const std::int64_t end = min(begin + band_rows, rows);
  float sum[W] = {};
  for (std::int64_t r0 = begin + warp; col < cols && r0 < end; r0 += kWarps * kUnroll) {
    Pack<T, W> packs[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const std::int64_t r = r0 + u * kWarps;
      packs[u] = r < end ? Pack<T, W>::load(x + r * stride + col) : Pack<T, W>{};
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
  for (int index = static_cast<int>(threadIdx.x); index < 32 * W; index += kThreads) {
    const std::int64_t c = (blockIdx.x * std::int64_t{32} + index % 32) * W + index / 32;
    float total = 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) total += shared[w][index];
    if (c < cols) partials[blockIdx.y * cols + c] = total;
  }
}

// Formula: out[m] += sum_k x[m, k]. Block: 256 threads per row, strided. Grid: rows.
template <typename T>
__global__ void row_sums_kernel(float* out, const T* x, std::int64_t cols, std::int64_t stride) {
  __shared__ float shared[kWarps];
  const T* row = x + blockIdx.x * stride;
  float sum = 0.0f;
  for (std::int64_t c = threadIdx.x; c < cols; c += kThreads) sum += widen(row[c]);
  sum = group_sum<kThreads>(sum, shared);
  if (threadIdx.x == 0) out[blockIdx.x] += sum;
}

template <typename T, int W>
void column_sums(const GemmArgs& args, Stream& stream) {
  const std::int64_t rows = args.a.rows();
  const std::int64_t cols = args.a.cols();
  const std::int64_t tiles = ceil_div(cols, 32 * W);
  // About four blocks per multiprocessor, each with at least one round of loads.
  const std::int64_t wanted = ceil_div(4 * context_of(stream).multiprocessors, tiles);
  const std::int64_t most = std::min(kMaxPartialRows, ceil_div(rows, kWarps * kUnroll));
  const std::int64_t band_rows = ceil_div(rows, std::clamp<std::int64_t>(wanted, 1, most));
  const std::int64_t bands = ceil_div(rows, band_rows);
  float* partials = scratch_floats(args.scratch, bands * cols);
  const dim3 grid(static_cast<unsigned>(tiles), static_cast<unsigned>(bands));
  column_bands_kernel<T, W><<<grid, kThreads, 0, native(stream)>>>(
      partials, data_of<const T>(args.a), rows, cols, args.a.row_stride, band_rows);
  check_launch("column_bands");
  add_partial_rows(data_of<float>(args.bias_grad), nullptr, partials, bands, cols, cols, stream);
}

template <typename T>
void row_sums(const GemmArgs& args, Stream& stream) {
  row_sums_kernel<<<static_cast<unsigned>(args.a.rows()), kThreads, 0, native(stream)>>>(
      data_of<float>(args.bias_grad), data_of<const T>(args.a), args.a.cols(), args.a.row_stride);
  check_launch("row_sums");
}

}  // namespace

void bias_grad(const GemmArgs& args, Stream& stream) {
  if (args.a.count() == 0) return;
  with_type(args.a.dtype, [&](auto type) {
    using T = decltype(type);
    if (!args.transpose_a) {
      row_sums<T>(args, stream);
    } else if (fits_vectors(args.a)) {
      column_sums<T, kVec<T>>(args, stream);
    } else {
      column_sums<T, 1>(args, stream);
    }
  });
}

}  // namespace lockstep::cuda
