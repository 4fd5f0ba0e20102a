// AdamW (arXiv 1711.05101) over the flat parameter ranges, one work item per task:
//   m = b1 m + (1 - b1) g     v = b2 v + (1 - b2) g^2     g = grad * grad_multiplier
//   w -= lr (m / c1 / (sqrt(v / c2) + eps) + weight_decay w), c = 1 - b^updates
#include "kernels/step_rules.h"

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/rows.h"

#include <algorithm>
#include <cmath>

namespace lockstep::cpu {
namespace {

// What is the same for every element.
struct Factors {
  float multiplier;
  float beta1;
  float beta2;
  float step;        // lr / c1
  float inverse_c2;  // 1 / sqrt(c2)
  float eps;
  float decay;  // lr * weight_decay
};

Factors factors_of(const AdamWArgs& args) {
  const StepState& state = *args.state;
  const double lr = state.lr;
  const double beta1 = args.beta1;
  const double beta2 = args.beta2;
  Factors f{};
  f.multiplier = state.grad_multiplier;
  f.beta1 = args.beta1;
  f.beta2 = args.beta2;
  f.step = static_cast<float>(lr / bias_correction(beta1, state.updates));
  f.inverse_c2 = static_cast<float>(1.0 / std::sqrt(bias_correction(beta2, state.updates)));
  f.eps = args.eps;
  f.decay = static_cast<float>(lr * static_cast<double>(args.weight_decay));
  return f;
}

void update_item(const AdamWArgs& args, const WorkItem& item, const Factors f) {
  float* w = static_cast<float*>(args.master.data) + item.begin;
  float* m = static_cast<float*>(args.moment1.data) + item.begin;
  float* v = static_cast<float*>(args.moment2.data) + item.begin;
  float* grad = static_cast<float*>(args.grads.data) + item.begin;
  const float decay = item.decay != 0 ? f.decay : 0.0f;
  const float rest1 = 1.0f - f.beta1;
  const float rest2 = 1.0f - f.beta2;
#pragma omp simd
  for (std::int32_t i = 0; i < item.count; ++i) {
    const float g = grad[i] * f.multiplier;
    m[i] = f.beta1 * m[i] + rest1 * g;
    v[i] = f.beta2 * v[i] + rest2 * (g * g);
    w[i] = w[i] - decay * w[i] - f.step * (m[i] / (std::sqrt(v[i]) * f.inverse_c2 + f.eps));
    grad[i] = 0.0f;
  }
  if (args.weights) {
    void* rounded = static_cast<std::byte*>(args.weights.data) +
                    item.begin * static_cast<std::int64_t>(size_of(args.weights.dtype));
    store_row(rounded, w, args.weights.dtype, item.count);
  }
}

}  // namespace

void adamw(const AdamWArgs& args, Stream& /*stream*/) {
  const bool finite = args.state->finite != 0;
  const Factors factors = finite ? factors_of(args) : Factors{};
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t i = 0; i < args.item_count; ++i) {
    const WorkItem& item = args.items[i];
    if (finite) {
      update_item(args, item, factors);
    } else {
      std::fill_n(static_cast<float*>(args.grads.data) + item.begin, item.count, 0.0f);
    }
  }
}

}  // namespace lockstep::cpu
