// cast: dst = src rounded to dst's type, nearest even; any pair of fp32, bf16 and fp16.
//
// Block: 256 threads, 8 elements each; the last block's tail goes element by element.
// Grid: count / 2048. Bytes: (sizeof(From) + sizeof(To)) count.
#include "kernels/cuda/check.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/vec.cuh"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kElements = 8;  // per thread: one 16-byte access on the 16-bit side

// Moves 8 elements between memory and floats in accesses of at most 16 bytes.
template <typename T>
__device__ void load_eight(float (&values)[kElements], const T* from) {
  constexpr int W = kVec<T>;
#pragma unroll
  for (int v = 0; v < kElements / W; ++v) {
    float part[W];
    Pack<T, W>::load_once(from + v * W).unpack(part);
#pragma unroll
    for (int i = 0; i < W; ++i) values[v * W + i] = part[i];
  }
}

template <typename T>
__device__ void store_eight(T* to, const float (&values)[kElements]) {
  constexpr int W = kVec<T>;
#pragma unroll
  for (int v = 0; v < kElements / W; ++v) {
    float part[W];
#pragma unroll
    for (int i = 0; i < W; ++i) part[i] = values[v * W + i];
    Pack<T, W>::from(part).store(to + v * W);
  }
}

template <typename To, typename From>
__global__ __launch_bounds__(kThreads) void cast_kernel(To* dst, const From* src,
                                                        std::int64_t count, bool vectors) {
  const std::int64_t begin = (blockIdx.x * std::int64_t{kThreads} + threadIdx.x) * kElements;
  if (vectors && begin + kElements <= count) {
    float values[kElements];
    load_eight(values, src + begin);
    store_eight(dst + begin, values);
    return;
  }
  for (std::int64_t i = begin; i < count && i < begin + kElements; ++i) {
    dst[i] = narrow<To>(widen(src[i]));
  }
}

}  // namespace

void cast(const CastArgs& args, Stream& stream) {
  const Tensor& dst = args.dst;
  const Tensor& src = args.src;
  const std::int64_t count = dst.count();
  if (count == 0) return;
  const auto blocks = static_cast<unsigned>(ceil_div(count, kThreads * kElements));
  with_type(dst.dtype, [&](auto to) {
    with_type(src.dtype, [&](auto from) {
      cast_kernel<<<blocks, kThreads, 0, native(stream)>>>(
          data_of<decltype(to)>(dst), data_of<const decltype(from)>(src), count,
          starts_on_16(dst) && starts_on_16(src));
    });
  });
  check_launch("cast");
}

}  // namespace lockstep::cuda
