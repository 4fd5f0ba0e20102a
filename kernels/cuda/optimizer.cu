// The end of a step, on the device from start to end: gradient norm, the step's decision, AdamW.
// Norm and AdamW each walk every tensor in one launch: WorkItems cut the flat ranges, and a block
// takes a quarter of an item.
#include "kernels/cuda/check.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"
#include "kernels/step_rules.h"

#include <algorithm>

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kParts = 4;  // blocks per item
constexpr int kPartElements = static_cast<int>(kWorkItemElements) / kParts;

// The flat range of one block, and how much of it can be read in 16-byte pieces.
struct Part {
  std::int64_t begin;
  int count;
  int wide;  // elements, a multiple of 4; the rest go one by one
};

// `aligned`: the flat buffers start on 16 bytes.
__device__ Part part_of(const WorkItem& item, int part, bool aligned) {
  const int first = part * kPartElements;
  const int count = min(max(item.count - first, 0), kPartElements);
  const std::int64_t begin = item.begin + first;
  return {begin, count, aligned && begin % 4 == 0 ? count / 4 * 4 : 0};
}

__device__ double square(float x) { return static_cast<double>(x) * static_cast<double>(x); }

// Formula: partials[item, part] = sum of g^2 over the part, in fp64, so nothing overflows that is
// finite. Block: 256 threads by stride of 4 elements. Grid: items, parts. Bytes: 4 per parameter.
__global__ __launch_bounds__(kThreads) void square_sums_kernel(double* partials, const float* grads,
                                                               const WorkItem* items,
                                                               bool aligned) {
  __shared__ double shared[kThreads / 32];
  const Part part = part_of(items[blockIdx.x], static_cast<int>(blockIdx.y), aligned);
  const float* g = grads + part.begin;
  double sum = 0.0;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x) * 4; i < part.wide; i += kThreads * 4) {
    const float4 v = *reinterpret_cast<const float4*>(g + i);
    sum += square(v.x) + square(v.y) + square(v.z) + square(v.w);
  }
  for (int i = part.wide + static_cast<int>(threadIdx.x); i < part.count; i += kThreads) {
    sum += square(g[i]);
  }
  sum = group_sum<kThreads>(sum, shared);
  if (threadIdx.x == 0) partials[blockIdx.x * kParts + blockIdx.y] = sum;
}

// Formula: sums[s] = the partials of segment s's items, in item order. One thread per item; the
// segment's first item does the work.
__global__ void segment_sums_kernel(double* sums, const double* partials, const WorkItem* items,
                                    std::int64_t item_count) {
  const std::int64_t first = blockIdx.x * std::int64_t{kThreads} + threadIdx.x;
  if (first >= item_count) return;
  const std::int32_t segment = items[first].segment;
  if (first > 0 && items[first - 1].segment == segment) return;
  double sum = 0.0;
  for (std::int64_t i = first; i < item_count && items[i].segment == segment; ++i) {
#pragma unroll
    for (int part = 0; part < kParts; ++part) sum += partials[i * kParts + part];
  }
  sums[segment] = sum;
}

// One block; the threads bring the sums near, then one of them adds in index order and decides
// (kernels/step_rules.h). Shared: the segment sums, if they fit.
__global__ __launch_bounds__(kThreads) void step_update_kernel(StepState* state,
                                                               const double* verdict,
                                                               std::int64_t segments,
                                                               StepRules rules, bool staged) {
  extern __shared__ double staged_sums[];
  if (staged) {
    for (std::int64_t s = threadIdx.x; s < segments; s += kThreads) staged_sums[s] = verdict[s];
    __syncthreads();
  }
  if (threadIdx.x != 0) return;
  const double* sums = staged ? staged_sums : verdict;
  StepVerdict decided;
  for (std::int64_t s = 0; s < segments; ++s) decided.norm_squared += sums[s];
  decided.valid_tokens = verdict[segments + 1];
  *state = advance(*state, decided, rules);
}

template <typename T>
struct AdamWView {
  float* master;
  float* moment1;
  float* moment2;
  float* grads;
  T* weights;  // null when layers read the masters
  const WorkItem* items;
  const StepState* state;
  float beta1, beta2, eps, weight_decay;
  bool aligned;
};

// What is the same for every element of an item.
struct AdamWStep {
  float multiplier;   // of gradients
  float keep;         // 1 - lr * weight_decay
  float step_size;    // lr / (1 - beta1^t)
  float denominator;  // 1 / sqrt(1 - beta2^t)
};

template <typename T>
__device__ AdamWStep step_of(const AdamWView<T>& view, bool decays) {
  const StepState& state = *view.state;
  const double correction1 = bias_correction(view.beta1, state.updates);
  const double correction2 = bias_correction(view.beta2, state.updates);
  return {state.grad_multiplier, decays ? 1.0f - state.lr * view.weight_decay : 1.0f,
          static_cast<float>(state.lr / correction1), static_cast<float>(1.0 / sqrt(correction2))};
}

template <typename T, int W>
__device__ void update_pack(const AdamWView<T>& view, const AdamWStep& step, std::int64_t at) {
  using F = Pack<float, W>;
  float p[W], m[W], v[W], g[W];
  const F grad = F::load(view.grads + at);
  const F master = F::load(view.master + at);
  const F moment1 = F::load(view.moment1 + at);
  const F moment2 = F::load(view.moment2 + at);
  grad.unpack(g);
  master.unpack(p);
  moment1.unpack(m);
  moment2.unpack(v);
#pragma unroll
  for (int i = 0; i < W; ++i) {
    const float gradient = g[i] * step.multiplier;
    m[i] = view.beta1 * m[i] + (1.0f - view.beta1) * gradient;
    v[i] = view.beta2 * v[i] + (1.0f - view.beta2) * gradient * gradient;
    p[i] = p[i] * step.keep - step.step_size * m[i] / (sqrtf(v[i]) * step.denominator + view.eps);
    g[i] = 0.0f;
  }
  F::from(p).store(view.master + at);
  F::from(m).store(view.moment1 + at);
  F::from(v).store(view.moment2 + at);
  F::from(g).store(view.grads + at);
  if (view.weights != nullptr) Pack<T, W>::from(p).store(view.weights + at);
}

template <int W>
__device__ void clear_pack(float* grads, std::int64_t at) {
  const float zeros[W] = {};
  Pack<float, W>::from(zeros).store(grads + at);
}

// Formula: m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2;
//   p = p (1 - lr wd) - lr / (1 - b1^t) m / (sqrt(v / (1 - b2^t)) + eps); g = 0.
// Block: 256 threads by stride of 4 elements. Grid: items, parts.
// Bytes: 32 per parameter (16 read, 16 written) and sizeof(T) for the rounded weight.
template <typename T>
__global__ __launch_bounds__(kThreads) void adamw_kernel(AdamWView<T> view) {
  const WorkItem item = view.items[blockIdx.x];
  const Part part = part_of(item, static_cast<int>(blockIdx.y), view.aligned);
  const int thread = static_cast<int>(threadIdx.x);
  if (view.state->finite == 0) {
    for (int i = thread * 4; i < part.wide; i += kThreads * 4) {
      clear_pack<4>(view.grads, part.begin + i);
    }
    for (int i = part.wide + thread; i < part.count; i += kThreads) {
      clear_pack<1>(view.grads, part.begin + i);
    }
    return;
  }
  const AdamWStep step = step_of(view, item.decay != 0);
  for (int i = thread * 4; i < part.wide; i += kThreads * 4) {
    update_pack<T, 4>(view, step, part.begin + i);
  }
  for (int i = part.wide + thread; i < part.count; i += kThreads) {
    update_pack<T, 1>(view, step, part.begin + i);
  }
}

dim3 part_grid(std::int64_t items) { return dim3(static_cast<unsigned>(items), kParts); }

}  // namespace

void grad_norm(const GradNormArgs& args, Stream& stream) {
  if (args.item_count == 0) return;
  const auto needed = static_cast<std::size_t>(args.item_count * kParts) * sizeof(double);
  CHECK(args.scratch.bytes() >= needed, "scratch of {} bytes, {} needed", args.scratch.bytes(),
        needed);
  auto* partials = data_of<double>(args.scratch);
  square_sums_kernel<<<part_grid(args.item_count), kThreads, 0, native(stream)>>>(
      partials, data_of<const float>(args.grads), args.items, starts_on_16(args.grads));
  check_launch("grad_norm squares");
  const auto blocks = static_cast<unsigned>(ceil_div(args.item_count, kThreads));
  segment_sums_kernel<<<blocks, kThreads, 0, native(stream)>>>(data_of<double>(args.sums), partials,
                                                               args.items, args.item_count);
  check_launch("grad_norm segments");
}

void step_update(const StepUpdateArgs& args, Stream& stream) {
  constexpr std::size_t kMostShared = 48 * 1024;
  const auto bytes = static_cast<std::size_t>(args.segments) * sizeof(double);
  const bool staged = bytes <= kMostShared;
  step_update_kernel<<<1, kThreads, staged ? bytes : 0, native(stream)>>>(
      args.state, data_of<const double>(args.verdict), args.segments, args.rules, staged);
  check_launch("step_update");
}

void adamw(const AdamWArgs& args, Stream& stream) {
  if (args.item_count == 0) return;
  with_type(args.weights ? args.weights.dtype : DType::kF32, [&](auto type) {
    using T = decltype(type);
    const AdamWView<T> view{.master = data_of<float>(args.master),
                            .moment1 = data_of<float>(args.moment1),
                            .moment2 = data_of<float>(args.moment2),
                            .grads = data_of<float>(args.grads),
                            .weights = data_of<T>(args.weights),
                            .items = args.items,
                            .state = args.state,
                            .beta1 = args.beta1,
                            .beta2 = args.beta2,
                            .eps = args.eps,
                            .weight_decay = args.weight_decay,
                            .aligned = starts_on_16(args.master) && starts_on_16(args.moment1) &&
                                       starts_on_16(args.moment2) && starts_on_16(args.grads) &&
                                       starts_on_16(args.weights)};
    adamw_kernel<T><<<part_grid(args.item_count), kThreads, 0, native(stream)>>>(view);
  });
  check_launch("adamw");
}

std::size_t grad_norm_scratch_bytes(std::int64_t work_items) {
  return static_cast<std::size_t>(work_items * kParts) * sizeof(double);
}

}  // namespace lockstep::cuda
