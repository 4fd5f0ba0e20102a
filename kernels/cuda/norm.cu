// LayerNorm and RMSNorm forward. A row lives in the registers of one warp (or 4 or 8 warps), so the
// mean and the variance are exact two-pass sums in fp32 and the row is read once.
//
// Legend: N rows, C channels. Formula: out = (x - mean) * rstd * weight + bias,
// rstd = 1 / sqrt(mean((x - mean)^2) + eps); RMSNorm is the same with mean = 0 and no bias.
#include "kernels/cuda/check.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/norm_rows.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace lockstep::cuda {
namespace {

template <typename T>
struct ForwardView {
  T* out;           // (N, C)
  float* mean;      // (N), null for RMSNorm
  float* rstd;      // (N)
  const T* x;       // (N, C)
  const T* weight;  // (C)
  const T* bias;    // (C) or null
  std::int64_t rows;
  int cols;
  float eps;
};

// What one thread holds of a row: kVecs packs, kRowThreads packs apart. Past the end: zeros.
template <typename T, int kRowThreads, int kVecs>
struct RowPart {
  static constexpr int W = kVec<T>;
  Pack<T, W> packs[kVecs];
  int cols;
  int lane;

  __device__ int column(int v) const { return (v * kRowThreads + lane) * W; }

  __device__ void load(const T* row) {
#pragma unroll
    for (int v = 0; v < kVecs; ++v) {
      packs[v] = column(v) < cols ? Pack<T, W>::load(row + column(v)) : Pack<T, W>{};
    }
  }

  __device__ float sum() const {
    float total = 0.0f;
#pragma unroll
    for (int v = 0; v < kVecs; ++v) {
      float values[W];
      packs[v].unpack(values);
#pragma unroll
      for (int i = 0; i < W; ++i) total += values[i];
    }
    return total;
  }

  __device__ float squares_around(float mean) const {
    float total = 0.0f;
#pragma unroll
    for (int v = 0; v < kVecs; ++v) {
      float values[W];
      packs[v].unpack(values);
      const bool inside = column(v) < cols;
#pragma unroll
      for (int i = 0; i < W; ++i) {
        const float centered = inside ? values[i] - mean : 0.0f;
        total += centered * centered;
      }
    }
    return total;
  }

  __device__ void write(T* out, const ForwardView<T>& view, float mean, float rstd) const {
#pragma unroll
    for (int v = 0; v < kVecs; ++v) {
      const int col = column(v);
      if (col >= cols) continue;
      float values[W], weight[W], bias[W] = {};
      packs[v].unpack(values);
      Pack<T, W>::load(view.weight + col).unpack(weight);
      if (view.bias != nullptr) Pack<T, W>::load(view.bias + col).unpack(bias);
#pragma unroll
      for (int i = 0; i < W; ++i) values[i] = (values[i] - mean) * rstd * weight[i] + bias[i];
      Pack<T, W>::from(values).store(out + col);
    }
  }
};

// Block: 256 threads = 256 / kRowThreads rows, kVecs packs per thread. Grid: N / rows of a block.
// Bytes: (read x + write out) sizeof(T) N C, and 8 N for the statistics.
template <typename T, int kRowThreads, int kVecs>
__global__ __launch_bounds__(kNormThreads) void norm_forward_kernel(ForwardView<T> view) {
  constexpr int kGroups = kNormThreads / kRowThreads;
  __shared__ float shared[2][kNormThreads / 32];
  const std::int64_t row = blockIdx.x * std::int64_t{kGroups} + threadIdx.x / kRowThreads;
  const bool active = row < view.rows;
  const float scale = 1.0f / static_cast<float>(view.cols);
  RowPart<T, kRowThreads, kVecs> part;
  part.cols = view.cols;
  part.lane = static_cast<int>(threadIdx.x) % kRowThreads;
  part.load(view.x + (active ? row : 0) * view.cols);

  float mean = 0.0f;
  if (view.mean != nullptr) mean = group_sum<kRowThreads>(part.sum(), shared[0]) * scale;
  const float squares = group_sum<kRowThreads>(part.squares_around(mean), shared[1]);
  const float rstd = 1.0f / sqrtf(squares * scale + view.eps);
  if (!active) return;
  part.write(view.out + row * view.cols, view, mean, rstd);
  if (part.lane == 0) {
    if (view.mean != nullptr) view.mean[row] = mean;
    view.rstd[row] = rstd;
  }
}

// Any C: three passes over the row, which stays in L1 or L2. Block: 256 threads. Grid: N.
template <typename T>
__global__ __launch_bounds__(kNormThreads) void norm_forward_any_kernel(ForwardView<T> view) {
  __shared__ float shared[2][kNormThreads / 32];
  const std::int64_t row = blockIdx.x;
  const T* x = view.x + row * view.cols;
  const float scale = 1.0f / static_cast<float>(view.cols);
  float sum = 0.0f;
  for (int c = threadIdx.x; c < view.cols; c += kNormThreads) sum += widen(x[c]);
  const float total = group_sum<kNormThreads>(sum, shared[0]);
  const float mean = view.mean != nullptr ? total * scale : 0.0f;
  float squares = 0.0f;
  for (int c = threadIdx.x; c < view.cols; c += kNormThreads) {
    const float centered = widen(x[c]) - mean;
    squares += centered * centered;
  }
  const float variance = group_sum<kNormThreads>(squares, shared[1]) * scale;
  const float rstd = 1.0f / sqrtf(variance + view.eps);
  for (int c = threadIdx.x; c < view.cols; c += kNormThreads) {
    const float bias = view.bias != nullptr ? widen(view.bias[c]) : 0.0f;
    const float value = (widen(x[c]) - mean) * rstd * widen(view.weight[c]) + bias;
    view.out[row * view.cols + c] = narrow<T>(value);
  }
  if (threadIdx.x == 0) {
    if (view.mean != nullptr) view.mean[row] = mean;
    view.rstd[row] = rstd;
  }
}

template <typename T>
void launch(const NormForward& args, Stream& stream) {
  const ForwardView<T> view{.out = data_of<T>(args.out),
                            .mean = data_of<float>(args.mean),
                            .rstd = data_of<float>(args.rstd),
                            .x = data_of<const T>(args.x),
                            .weight = data_of<const T>(args.weight),
                            .bias = data_of<const T>(args.bias),
                            .rows = args.x.rows(),
                            .cols = static_cast<int>(args.x.cols()),
                            .eps = args.eps};
  const bool vectors = fits_vectors(args.x) && fits_vectors(args.out) &&
                       fits_vectors(args.weight) && fits_vectors(args.bias);
  const bool done = vectors && with_row_shape<T>(view.cols, [&](auto shape) {
                      const auto blocks = static_cast<unsigned>(ceil_div(view.rows, shape.kGroups));
                      norm_forward_kernel<T, shape.kRowThreads, shape.kVecs>
                          <<<blocks, kNormThreads, 0, native(stream)>>>(view);
                    });
  if (!done) {
    norm_forward_any_kernel<<<static_cast<unsigned>(view.rows), kNormThreads, 0, native(stream)>>>(
        view);
  }
  check_launch("norm_forward");
}

}  // namespace

void norm_forward(const NormForward& args, Stream& stream) {
  if (args.x.count() == 0) return;
  with_type(args.x.dtype, [&](auto type) { launch<decltype(type)>(args, stream); });
}

}  // namespace lockstep::cuda
