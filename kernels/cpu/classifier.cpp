// Fused softmax and cross-entropy, row by row in fp32, and the sums of a micro-batch's losses.
//   loss = max + log(sum exp(x - max)) - x[target]     dx = (softmax(x) - onehot(target)) seed
#include "kernels/cpu/context.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector_math.h"

#include <algorithm>
#include <cmath>

namespace lockstep::cpu {
namespace {

float maximum(const float* x, std::int64_t count) {
  float top = x[0];
#pragma omp simd reduction(max : top)
  for (std::int64_t i = 1; i < count; ++i) top = std::max(top, x[i]);
  return top;
}

// sum of exp(x - top) in partial sums of kBlock, which keeps the error of a 100 k-entry
// vocabulary's sum near that of a short one.
float sum_of_exponentials(const float* x, std::int64_t count, float top) {
  constexpr std::int64_t kBlock = 1024;
  float total = 0.0f;
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const std::int64_t end = std::min(begin + kBlock, count);
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t i = begin; i < end; ++i) sum += fast_exp(x[i] - top);
    total += sum;
  }
  return total;
}

bool first_largest(const float* x, std::int64_t target, float top) {
  return x[target] == top && std::find(x, x + target, top) == x + target;
}

// out[i] = (softmax(x)[i] - [i == target]) * seed, 0 in the padding; may run in place.
void write_gradient(const ClassifierArgs& args, std::int64_t row, const float* x, float top,
                    float sum, float* buffer) {
  const std::int32_t target = static_cast<const std::int32_t*>(args.targets.data)[row];
  float* out = output_row(args.logits, row, buffer);
  const float seed = args.state->grad_seed;
  const float scale = seed / sum;
  for (std::int64_t i = 0; i < args.vocab; ++i) out[i] = fast_exp(x[i] - top) * scale;
  out[target] -= seed;
  std::fill(out + args.vocab, out + args.logits.cols(), 0.0f);
  store_output(args.logits, row, out);
}

void clear_row(const ClassifierArgs& args, std::int64_t row, float* buffer) {
  float* out = output_row(args.logits, row, buffer);
  std::fill_n(out, args.logits.cols(), 0.0f);
  store_output(args.logits, row, out);
}

void classify_row(const ClassifierArgs& args, std::int64_t row, float* buffer) {
  const std::int32_t target = static_cast<const std::int32_t*>(args.targets.data)[row];
  auto* losses = static_cast<float*>(args.losses.data);
  auto* correct = static_cast<std::uint8_t*>(args.correct.data);
  if (target < 0) {
    losses[row] = 0.0f;
    if (correct != nullptr) correct[row] = 0;
    if (args.write_gradient) clear_row(args, row, buffer);
    return;
  }
  const float* x = row_of(args.logits, row, 0, args.vocab, buffer);
  const float top = maximum(x, args.vocab);
  const float sum = sum_of_exponentials(x, args.vocab, top);
  losses[row] = std::log(sum) + (top - x[target]);
  if (correct != nullptr) correct[row] = first_largest(x, target, top) ? 1 : 0;
  if (args.write_gradient) write_gradient(args, row, x, top, sum, buffer);
}

}  // namespace

void classifier(const ClassifierArgs& args, Stream& stream) {
  CpuContext& context = context_of(stream);
  context.reserve_per_thread(args.logits.cols());
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < args.logits.rows(); ++row) {
    classify_row(args, row, context.thread_buffer());
  }
}

void loss_totals(const LossTotals& args, Stream& /*stream*/) {
  const auto* losses = static_cast<const float*>(args.losses.data);
  const auto* correct = static_cast<const std::uint8_t*>(args.correct.data);
  const auto* targets = static_cast<const std::int32_t*>(args.targets.data);
  double loss = 0.0;
  std::int64_t valid = 0;
  std::int64_t hits = 0;
  for (std::int64_t row = 0; row < args.targets.count(); ++row) {
    if (targets[row] < 0) continue;
    loss += static_cast<double>(losses[row]);
    valid += 1;
    if (correct != nullptr) hits += correct[row];
  }
  auto* totals = static_cast<double*>(args.totals.data);
  totals[0] += loss;
  totals[1] += static_cast<double>(valid);
  totals[2] += static_cast<double>(hits);
}

}  // namespace lockstep::cpu
