// Fused softmax and cross-entropy: one block per row reads the logits once for the maximum and the
// sum, and overwrites them with their gradient. The row waits in shared memory between the two;
// what does not fit beside a second block is read again, from L2.
//
// Legend: N rows, V classes, Vp padded columns. Formula: loss = log(sum_j exp(x_j)) - x_target;
//   dx_j = (exp(x_j) / sum - [j = target]) seed; 0 in padding and in rows whose target is below 0.
// Bytes: read sizeof(T) N V; with a gradient also write sizeof(T) N Vp.
#include "kernels/cuda/check.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

#include <algorithm>

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kUnroll = 4;  // packs in flight per thread
constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLowest = -1.0e30f;  // below any logit; finite, so that differences are

// 2^x in one instruction; relative error 2^-22, subnormal results flushed to 0.
__device__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

template <typename T>
struct ClassifierView {
  T* logits;                    // (N, Vp), rows `stride` apart
  float* losses;                // (N)
  std::uint8_t* correct;        // (N) or null
  const std::int32_t* targets;  // (N)
  const StepState* state;       // null: no gradient
  std::int64_t stride;
  int vocab;
  int padded;
  int cached_packs;  // of a row, in shared memory
};

// Running maximum and sum of exp(x - maximum), and whether a class before the target equals it.
struct Softmax {
  float maximum = kLowest;
  float sum = 0.0f;
  bool tied = false;
};

__device__ Softmax merge(Softmax a, Softmax b) {
  const float maximum = fmaxf(a.maximum, b.maximum);
  const float sum = a.sum * exp2_fast((a.maximum - maximum) * kLog2E) +
                    b.sum * exp2_fast((b.maximum - maximum) * kLog2E);
  return {maximum, sum, a.tied || b.tied};
}

// Adds columns [col, col + W) to the running values; columns from vocab on do not count.
template <int W>
__device__ void add_pack(Softmax& s, float (&x)[W], int col, int vocab, int target,
                         float target_logit) {
  if (col + W > vocab) {
#pragma unroll
    for (int i = 0; i < W; ++i) {
      if (col + i >= vocab) x[i] = kLowest;
    }
  }
  float top = x[0];
#pragma unroll
  for (int i = 1; i < W; ++i) top = fmaxf(top, x[i]);
  if (top == target_logit) {
#pragma unroll
    for (int i = 0; i < W; ++i) s.tied |= x[i] == target_logit && col + i < target;
  }
  if (top > s.maximum) {
    s.sum *= exp2_fast((s.maximum - top) * kLog2E);
    s.maximum = top;
  }
  const float shift = s.maximum * kLog2E;
#pragma unroll
  for (int i = 0; i < W; ++i) s.sum += exp2_fast(fmaf(x[i], kLog2E, -shift));
}

// This thread's part of the row. The packs that fit stay in `cache`, read back by the same thread.
template <typename T, int W>
__device__ Softmax scan_row(Pack<T, W>* cache, const ClassifierView<T>& view, const T* row,
                            int target, float target_logit) {
  Softmax s;
  const int packs = (view.vocab + W - 1) / W;
  for (int base = static_cast<int>(threadIdx.x); base < packs; base += kThreads * kUnroll) {
    Pack<T, W> loaded[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int p = base + u * kThreads;
      if (p < packs) loaded[u] = Pack<T, W>::load(row + std::int64_t{p} * W);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      const int p = base + u * kThreads;
      if (p >= packs) continue;
      if (p < view.cached_packs) cache[p] = loaded[u];
      float x[W];
      loaded[u].unpack(x);
      add_pack<W>(s, x, p * W, view.vocab, target, target_logit);
    }
  }
  return s;
}

// All threads get the whole row's values, merged in a fixed order.
__device__ Softmax merge_block(Softmax s) {
  __shared__ Softmax shared[kWarps];
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    const Softmax other{__shfl_xor_sync(kFullWarp, s.maximum, offset),
                        __shfl_xor_sync(kFullWarp, s.sum, offset),
                        __shfl_xor_sync(kFullWarp, static_cast<int>(s.tied), offset) != 0};
    s = merge(s, other);
  }
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = s;
  __syncthreads();
  s = shared[0];
#pragma unroll
  for (int w = 1; w < kWarps; ++w) s = merge(s, shared[w]);
  return s;
}

// dlogits = (2^(x log2 e - shift) - [target]) seed, with shift = log2(e^maximum sum).
template <typename T, int W>
__device__ void write_gradient(const Pack<T, W>* cache, const ClassifierView<T>& view, T* row,
                               int target, float shift, float seed) {
  const int packs = view.padded / W;
#pragma unroll 2
  for (int p = static_cast<int>(threadIdx.x); p < packs; p += kThreads) {
    const int col = p * W;
    float x[W];
    if (p < view.cached_packs) {
      cache[p].unpack(x);
    } else {
      Pack<T, W>::load(row + col).unpack(x);
    }
#pragma unroll
    for (int i = 0; i < W; ++i) x[i] = exp2_fast(fmaf(x[i], kLog2E, -shift)) * seed;
    if (target >= col && target < col + W) {
#pragma unroll
      for (int i = 0; i < W; ++i) x[i] -= col + i == target ? seed : 0.0f;
    }
    if (col + W > view.vocab) {
#pragma unroll
      for (int i = 0; i < W; ++i) x[i] = col + i < view.vocab ? x[i] : 0.0f;
    }
    Pack<T, W>::from(x).store(row + col);
  }
}

template <typename T, int W>
__device__ void clear_row(const ClassifierView<T>& view, T* row) {
  const float zeros[W] = {};
  for (int p = static_cast<int>(threadIdx.x); p < view.padded / W; p += kThreads) {
    Pack<T, W>::from(zeros).store(row + std::int64_t{p} * W);
  }
}

// Block: 512 threads, one row. Grid: N. Shared: the row's first cached_packs packs.
template <typename T, int W>
__global__ __launch_bounds__(kThreads, 2) void classifier_kernel(ClassifierView<T> view) {
  extern __shared__ uint4 classifier_cache[];
  auto* cache = reinterpret_cast<Pack<T, W>*>(classifier_cache);
  T* row = view.logits + blockIdx.x * view.stride;
  const int target = view.targets[blockIdx.x];
  if (target < 0) {
    if (view.state != nullptr) clear_row<T, W>(view, row);
    if (threadIdx.x == 0) view.losses[blockIdx.x] = 0.0f;
    if (threadIdx.x == 0 && view.correct != nullptr) view.correct[blockIdx.x] = 0;
    return;
  }
  const float target_logit = widen(row[target]);
  const Softmax s = merge_block(scan_row<T, W>(cache, view, row, target, target_logit));
  if (threadIdx.x == 0) {
    view.losses[blockIdx.x] = logf(s.sum) + (s.maximum - target_logit);
    // The first largest logit wins, so a tie counts only on the target's left.
    const bool wins = target_logit == s.maximum && !s.tied;
    if (view.correct != nullptr) view.correct[blockIdx.x] = wins ? 1 : 0;
  }
  if (view.state == nullptr) return;
  const float shift = fmaf(s.maximum, kLog2E, log2f(s.sum));
  write_gradient<T, W>(cache, view, row, target, shift, view.state->grad_seed);
}

// Shared memory for a row's packs that leaves room for two blocks on a multiprocessor.
std::size_t cache_bytes(const Context& context, std::size_t row_bytes) {
  constexpr std::size_t kReserved = 2048;  // the runtime's share and the static arrays
  const std::size_t half = context.shared_per_multiprocessor / 2;
  const std::size_t room = std::min(half, context.shared_per_block);
  return std::min(row_bytes, room > kReserved ? (room - kReserved) / 16 * 16 : 0);
}

template <typename T, int W>
void launch(const ClassifierArgs& args, Stream& stream) {
  ClassifierView<T> view{.logits = data_of<T>(args.logits),
                         .losses = data_of<float>(args.losses),
                         .correct = data_of<std::uint8_t>(args.correct),
                         .targets = data_of<const std::int32_t>(args.targets),
                         .state = args.write_gradient ? args.state : nullptr,
                         .stride = args.logits.row_stride,
                         .vocab = static_cast<int>(args.vocab),
                         .padded = static_cast<int>(args.logits.cols()),
                         .cached_packs = 0};
  std::size_t shared = 0;
  if (args.write_gradient) {
    constexpr std::size_t kPackBytes = sizeof(Pack<T, W>);
    const auto packs = static_cast<std::size_t>(ceil_div(args.vocab, W));
    shared = cache_bytes(context_of(stream), packs * kPackBytes);
    view.cached_packs = static_cast<int>(shared / kPackBytes);
    check(cudaFuncSetAttribute(classifier_kernel<T, W>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared)),
          "cudaFuncSetAttribute(classifier)");
  }
  classifier_kernel<T, W>
      <<<static_cast<unsigned>(args.logits.rows()), kThreads, shared, native(stream)>>>(view);
  check_launch("classifier");
}

}  // namespace

void classifier(const ClassifierArgs& args, Stream& stream) {
  if (args.logits.count() == 0) return;
  with_type(args.logits.dtype, [&](auto type) {
    using T = decltype(type);
    if (fits_vectors(args.logits)) {
      launch<T, kVec<T>>(args, stream);
    } else {
      launch<T, 1>(args, stream);
    }
  });
}

}  // namespace lockstep::cuda
