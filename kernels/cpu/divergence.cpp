// Two softmaxes of a row side by side, in fp32 with sums over blocks in fp64.
//   loss = lse(x) - x[target]     divergence = sum q ((y - lse(y)) - (x - lse(x))), q = softmax(y)
#include "kernels/cpu/context.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector_math.h"

#include <algorithm>
#include <cmath>

namespace lockstep::cpu {
namespace {

constexpr std::int64_t kBlock = 1024;

struct Row {
  const float* x = nullptr;
  std::int64_t top = 0;  // the first largest
  float lse = 0.0f;
};

// sum over [0, count) of f(i), in fp32 within a block.
template <typename Function>
double block_sum(std::int64_t count, const Function& f) {
  double total = 0.0;
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const std::int64_t end = std::min(begin + kBlock, count);
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = begin; i < end; ++i) sum += f(i);
    total += static_cast<double>(sum);
  }
  return total;
}

Row measure(const Tensor& logits, std::int64_t row, std::int64_t vocab, float* buffer) {
  Row r;
  r.x = row_of(logits, row, 0, vocab, buffer);
  r.top = std::max_element(r.x, r.x + vocab) - r.x;
  const float largest = r.x[r.top];
  const double sum = block_sum(vocab, [&](std::int64_t i) { return fast_exp(r.x[i] - largest); });
  r.lse = largest + static_cast<float>(std::log(sum));
  return r;
}

void compare_row(const DivergenceArgs& args, std::int64_t row, float* buffer) {
  const std::int32_t target = static_cast<const std::int32_t*>(args.targets.data)[row];
  float& loss = static_cast<float*>(args.losses.data)[row];
  float& reference_loss = static_cast<float*>(args.reference_losses.data)[row];
  float& divergence = static_cast<float*>(args.divergences.data)[row];
  std::uint8_t& verdict = static_cast<std::uint8_t*>(args.verdicts.data)[row];
  loss = reference_loss = divergence = 0.0f;
  verdict = 0;
  if (target < 0) return;
  const Row p = measure(args.logits, row, args.vocab, buffer);
  const Row q = measure(args.reference, row, args.vocab, buffer + args.logits.cols());
  loss = p.lse - p.x[target];
  reference_loss = q.lse - q.x[target];
  divergence = static_cast<float>(block_sum(args.vocab, [&](std::int64_t i) {
    const float log_q = q.x[i] - q.lse;
    return fast_exp(log_q) * (log_q - (p.x[i] - p.lse));
  }));
  if (p.top == target) verdict |= DivergenceArgs::kRight;
  if (q.top == target) verdict |= DivergenceArgs::kReferenceRight;
  if (p.top == q.top) verdict |= DivergenceArgs::kSameTop;
}

}  // namespace

void divergence(const DivergenceArgs& args, Stream& stream) {
  CpuContext& context = context_of(stream);
  context.reserve_per_thread(args.logits.cols() + args.reference.cols());
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < args.logits.rows(); ++row) {
    compare_row(args, row, context.thread_buffer());
  }
}

}  // namespace lockstep::cpu
