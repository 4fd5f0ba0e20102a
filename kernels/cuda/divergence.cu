// Two softmaxes of a row side by side: one block per row finds both maxima, both sums, and then the
// divergence, reading the two rows three times (from L2 after the first).
//
// Legend: N rows, V classes. Formula: loss = lse(x) - x_target; divergence = sum q ((y - lse(y)) -
//   (x - lse(x))), q = softmax(y); sums over a row in fp64. Bytes: 3 (sizeof x + sizeof y) N V.
#include "kernels/cuda/check.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

#include <cmath>
#include <cstdint>

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

struct Top {
  float value;
  int index;
};

__device__ Top better(Top a, Top b) {
  return b.value > a.value || (b.value == a.value && b.index < a.index) ? b : a;
}

template <typename T>
struct Logits {
  const T* data;
  std::int64_t stride;

  __device__ const T* row() const { return data + blockIdx.x * stride; }
};

struct Results {
  float *losses, *reference_losses, *divergences;  // (N)
  std::uint8_t* verdicts;                          // (N)
};

// The first largest of the row; all threads get it.
template <typename T>
__device__ Top first_largest(const T* x, int vocab, Top* shared) {
  Top top{-INFINITY, vocab};
  for (int i = threadIdx.x; i < vocab; i += kThreads) top = better(top, {widen(x[i]), i});
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    top = better(top, {__shfl_xor_sync(kFullWarp, top.value, offset),
                       __shfl_xor_sync(kFullWarp, top.index, offset)});
  }
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = top;
  __syncthreads();
  top = shared[0];
  for (int w = 1; w < kWarps; ++w) top = better(top, shared[w]);
  return top;
}

template <typename T>
__device__ float log_sum(const T* x, int vocab, float largest, double* shared) {
  double sum = 0.0;
  for (int i = threadIdx.x; i < vocab; i += kThreads) sum += expf(widen(x[i]) - largest);
  return largest + static_cast<float>(log(group_sum<kThreads>(sum, shared)));
}

// Block: 256 threads. Grid: N.
template <typename T, typename R>
__global__ __launch_bounds__(kThreads) void divergence_kernel(Results results, Logits<T> logits,
                                                              Logits<R> reference,
                                                              const std::int32_t* targets,
                                                              int vocab) {
  __shared__ Top tops[2][kWarps];
  __shared__ double sums[3][kWarps];
  const int target = targets[blockIdx.x];
  const T* x = logits.row();
  const R* y = reference.row();
  float loss = 0.0f, reference_loss = 0.0f;
  double divergence = 0.0;
  int verdict = 0;
  if (target >= 0) {  // the same for the whole block
    const Top p = first_largest(x, vocab, tops[0]);
    const Top q = first_largest(y, vocab, tops[1]);
    const float p_lse = log_sum(x, vocab, p.value, sums[0]);
    const float q_lse = log_sum(y, vocab, q.value, sums[1]);
    for (int i = threadIdx.x; i < vocab; i += kThreads) {
      const float log_q = widen(y[i]) - q_lse;
      divergence += expf(log_q) * (log_q - (widen(x[i]) - p_lse));
    }
    divergence = group_sum<kThreads>(divergence, sums[2]);
    loss = p_lse - widen(x[target]);
    reference_loss = q_lse - widen(y[target]);
    using Bits = DivergenceArgs;
    verdict = (p.index == target ? Bits::kRight : 0) |
              (q.index == target ? Bits::kReferenceRight : 0) |
              (p.index == q.index ? Bits::kSameTop : 0);
  }
  if (threadIdx.x != 0) return;
  results.losses[blockIdx.x] = loss;
  results.reference_losses[blockIdx.x] = reference_loss;
  results.divergences[blockIdx.x] = static_cast<float>(divergence);
  results.verdicts[blockIdx.x] = static_cast<std::uint8_t>(verdict);
}

template <typename T>
Logits<T> rows_of(const Tensor& logits) {
  return {data_of<const T>(logits), logits.row_stride};
}

}  // namespace

void divergence(const DivergenceArgs& args, Stream& stream) {
  const Results results{data_of<float>(args.losses), data_of<float>(args.reference_losses),
                        data_of<float>(args.divergences), data_of<std::uint8_t>(args.verdicts)};
  with_type(args.logits.dtype, [&](auto type) {
    with_type(args.reference.dtype, [&](auto other) {
      divergence_kernel<<<static_cast<unsigned>(args.logits.rows()), kThreads, 0, native(stream)>>>(
          results, rows_of<decltype(type)>(args.logits), rows_of<decltype(other)>(args.reference),
          data_of<const std::int32_t>(args.targets), static_cast<int>(args.vocab));
    });
  });
  check_launch("divergence");
}

}  // namespace lockstep::cuda
