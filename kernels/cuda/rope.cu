// Rotary position embedding, in place (Su et al., arXiv 2104.09864), half-split order.
//
// Legend: N rows, D head dim. Formula, per head and i < D/2, with the row's position's c, s:
//   (x[i], x[i + D/2]) = (x[i] c - x[i + D/2] s, x[i + D/2] c + x[i] s); inverse negates s.
// Bytes: 2 sizeof(T) N heads D; the table stays in L2.
#include "kernels/cuda/check.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/positions.cuh"
#include "kernels/cuda/vec.cuh"

#include <algorithm>

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
struct RopeView {
  T* x;                // (N, heads D), rows `stride` apart
  const float* table;  // (P, D)
  std::int64_t stride;
  RowPositions positions;
  int pairs;   // heads D / 2
  int half;    // D / 2
  float sign;  // -1: rotate back
};

// W neighbouring factors of the table.
template <int W>
__device__ void load_factors(float (&out)[W], const float* from) {
  constexpr int kPart = W % 4 == 0 ? 4 : 1;
#pragma unroll
  for (int v = 0; v < W; v += kPart) {
    float part[kPart];
    Pack<float, kPart>::load(from + v).unpack(part);
#pragma unroll
    for (int i = 0; i < kPart; ++i) out[v + i] = part[i];
  }
}

// Block: up to 256 threads over the pairs of one row, W neighbouring pairs each. Grid: N.
template <typename T, int W>
__global__ __launch_bounds__(kThreads) void rope_kernel(RopeView<T> view) {
  T* row = view.x + blockIdx.x * view.stride;
  const float* table = view.table + view.positions.of(blockIdx.x) * 2 * view.half;
  for (int p = static_cast<int>(threadIdx.x) * W; p < view.pairs;
       p += static_cast<int>(blockDim.x) * W) {
    const int i = p % view.half;
    T* low = row + p / view.half * (2 * view.half) + i;
    T* high = low + view.half;
    float a[W], b[W], cosine[W], sine[W];
    load_factors(cosine, table + i);
    load_factors(sine, table + view.half + i);
    Pack<T, W>::load(low).unpack(a);
    Pack<T, W>::load(high).unpack(b);
#pragma unroll
    for (int j = 0; j < W; ++j) {
      const float s = sine[j] * view.sign;
      const float rotated = a[j] * cosine[j] - b[j] * s;
      b[j] = b[j] * cosine[j] + a[j] * s;
      a[j] = rotated;
    }
    Pack<T, W>::from(a).store(low);
    Pack<T, W>::from(b).store(high);
  }
}

template <typename T, int W>
void launch(const RopeArgs& args, Stream& stream) {
  const RopeView<T> view{.x = data_of<T>(args.x),
                         .table = data_of<const float>(args.table),
                         .stride = args.x.row_stride,
                         .positions = row_positions(args),
                         .pairs = static_cast<int>(args.x.cols() / 2),
                         .half = static_cast<int>(args.head_dim / 2),
                         .sign = args.inverse ? -1.0f : 1.0f};
  const std::int64_t threads = std::min<std::int64_t>(kThreads, ceil_div(view.pairs, 32 * W) * 32);
  rope_kernel<T, W>
      <<<static_cast<unsigned>(args.x.rows()), static_cast<unsigned>(threads), 0, native(stream)>>>(
          view);
  check_launch("rope");
}

}  // namespace

void rope(const RopeArgs& args, Stream& stream) {
  if (args.x.count() == 0) return;
  with_type(args.x.dtype, [&](auto type) {
    using T = decltype(type);
    const bool aligned = fits_vectors(args.x) && fits_vectors(args.table);
    if (aligned && args.head_dim / 2 % kVec<T> == 0) {
      launch<T, kVec<T>>(args, stream);
    } else {
      launch<T, 1>(args, stream);
    }
  });
}

}  // namespace lockstep::cuda
