// Rows rounded to int8 steps and back: s = max|x| / 127.5, out = s clamp(rint(x / s), -128, 127).
//
// Legend: N rows, C channels. Block: up to 256 threads over the packs of one row, read twice, the
// second time from the cache; a thread writes only what it alone reads, so out may be x.
// Grid: N. Bytes: 2 sizeof(T) N C.
#include "kernels/cuda/check.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

#include <algorithm>

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
struct View {
  T* out;
  const T* x;
  std::int64_t out_stride, x_stride, cols;
};

// Every thread gets the largest |x| of the row; NaN is passed over.
template <typename T, int W>
__device__ float row_largest(const T* x, std::int64_t cols) {
  __shared__ float shared[kThreads / 32];
  float largest = 0.0f;
  for (std::int64_t c = threadIdx.x * W; c < cols; c += blockDim.x * W) {
    float values[W];
    Pack<T, W>::load(x + c).unpack(values);
#pragma unroll
    for (int i = 0; i < W; ++i) largest = fmaxf(largest, fabsf(values[i]));
  }
  largest = warp_max(largest);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = largest;
  __syncthreads();
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) largest = fmaxf(largest, shared[warp]);
  return largest;
}

template <typename T, int W>
__global__ __launch_bounds__(kThreads) void round_rows_kernel(View<T> view) {
  const T* x = view.x + blockIdx.x * view.x_stride;
  T* out = view.out + blockIdx.x * view.out_stride;
  float scale = row_largest<T, W>(x, view.cols) / 127.5f;
  if (scale == 0.0f) scale = 1.0f;
  for (std::int64_t c = threadIdx.x * W; c < view.cols; c += blockDim.x * W) {
    float values[W];
    Pack<T, W>::load(x + c).unpack(values);
#pragma unroll
    for (int i = 0; i < W; ++i) {
      const float step = rintf(values[i] / scale);
      // Comparisons, unlike fminf and fmaxf, let NaN through.
      values[i] = (step < -128.0f ? -128.0f : step > 127.0f ? 127.0f : step) * scale;
    }
    Pack<T, W>::from(values).store(out + c);
  }
}

template <typename T, int W>
void launch(const RoundRows& args, Stream& stream) {
  const View<T> view{.out = data_of<T>(args.out),
                     .x = data_of<const T>(args.x),
                     .out_stride = args.out.row_stride,
                     .x_stride = args.x.row_stride,
                     .cols = args.x.cols()};
  const auto threads = std::min<std::int64_t>(kThreads, ceil_div(view.cols, 32 * W) * 32);
  round_rows_kernel<T, W>
      <<<static_cast<unsigned>(args.x.rows()), static_cast<unsigned>(threads), 0, native(stream)>>>(
          view);
  check_launch("round_rows");
}

}  // namespace

void round_rows(const RoundRows& args, Stream& stream) {
  if (args.x.count() == 0) return;
  const bool vectors = fits_vectors(args.x) && fits_vectors(args.out);
  with_type(args.x.dtype, [&](auto type) {
    using T = decltype(type);
    if (vectors) {
      launch<T, kVec<T>>(args, stream);
    } else {
      launch<T, 1>(args, stream);
    }
  });
}

}  // namespace lockstep::cuda
