// The arithmetic of a training step's decision, shared by every backend: loss scaler, clipping,
// learning-rate schedule and bias correction. Pure functions of their arguments, in double where a
// rounding could add up, so that every rank and both backends decide alike.
#pragma once

#include "kernels/table.h"

#include <cmath>
#include <cstdint>

// nvcc compiles these functions for both sides; every other compiler sees plain inline functions.
#ifdef __CUDACC__
#define LOCKSTEP_HOST_DEVICE __host__ __device__
#else
#define LOCKSTEP_HOST_DEVICE
#endif

namespace lockstep {

// What a step's all-reduced sums amount to.
struct StepVerdict {
  double norm_squared = 0.0;  // of the scaled gradient; not finite if any element is not
  double valid_tokens = 0.0;  // targets that count, over all ranks and micro-batches
};

LOCKSTEP_HOST_DEVICE inline bool is_finite(double x) { return x - x == 0.0; }

// Share of the way from the end of warm-up to the schedule's end, in [0, 1]. A decay of one update
// has no way to go: that update trains at the peak and not at the end's rate, which may be 0.
LOCKSTEP_HOST_DEVICE inline double schedule_progress(std::int64_t update, std::int64_t begin,
                                                     std::int64_t end) {
  if (update <= begin) return 0.0;
  if (update >= end) return update == end && end - begin == 1 ? 0.0 : 1.0;
  return static_cast<double>(update - begin) / static_cast<double>(end - begin);
}

// How much of (peak - final) is left at `update`, in [0, 1].
//   linear: 1 - p.   cosine: (1 + cos(pi p)) / 2 (Loshchilov & Hutter, arXiv 1608.03983).
//   wsd: 1 until total_steps - decay_steps, then 1 - sqrt(p) (Haegele et al., arXiv 2405.18392).
LOCKSTEP_HOST_DEVICE inline double schedule_height(const StepRules& rules, std::int64_t update) {
  constexpr double kPi = 3.14159265358979323846;
  const double p = schedule_progress(update, rules.warmup_steps, rules.total_steps);
  switch (rules.schedule) {
    case StepRules::Schedule::kConstant: return 1.0;
    case StepRules::Schedule::kLinear: return 1.0 - p;
    case StepRules::Schedule::kCosine: return p < 1.0 ? 0.5 * (1.0 + std::cos(kPi * p)) : 0.0;
    case StepRules::Schedule::kWsd: {
      const std::int64_t begin = rules.total_steps - rules.decay_steps;
      return 1.0 - std::sqrt(schedule_progress(update, begin, rules.total_steps));
    }
  }
  return 1.0;
}

// The learning rate of update number `update`, counted from 1. Warm-up is linear and reaches the
// peak at update warmup_steps; the schedule reaches final_lr_fraction * peak at total_steps.
LOCKSTEP_HOST_DEVICE inline float learning_rate(const StepRules& rules, std::int64_t update) {
  const double peak = rules.peak_lr;
  if (update <= rules.warmup_steps) {
    return static_cast<float>(peak * static_cast<double>(update) /
                              static_cast<double>(rules.warmup_steps));
  }
  const double last = peak * rules.final_lr_fraction;
  return static_cast<float>(last + (peak - last) * schedule_height(rules, update));
}

// Gradients carry the factor S * valid / micro_tokens; this takes it out. No valid token at all
// leaves zero gradients, for which any finite factor will do.
LOCKSTEP_HOST_DEVICE inline double unscale_factor(const StepRules& rules, double valid_tokens,
                                                  double loss_scale) {
  const double valid = valid_tokens > 1.0 ? valid_tokens : 1.0;
  return static_cast<double>(rules.micro_tokens) / (valid * loss_scale);
}

// The scaler after a finite step: doubled after growth_interval finite steps in a row, never above
// the cap (and never lowered to it: a larger initial scale stands until an overflow).
LOCKSTEP_HOST_DEVICE inline void scaler_grow(StepState& state, const StepRules& rules) {
  if (!rules.dynamic_scale) return;
  state.good_steps += 1;
  if (state.good_steps < rules.growth_interval) return;
  state.good_steps = 0;
  if (state.loss_scale >= rules.max_loss_scale) return;
  const float doubled = state.loss_scale * 2.0f;
  state.loss_scale = doubled < rules.max_loss_scale ? doubled : rules.max_loss_scale;
}

// The scaler after an overflow: halved, never below the floor (a smaller scale is raised to it).
LOCKSTEP_HOST_DEVICE inline void scaler_back_off(StepState& state, const StepRules& rules) {
  state.good_steps = 0;
  if (!rules.dynamic_scale) return;
  const float halved = state.loss_scale * 0.5f;
  state.loss_scale = halved > rules.min_loss_scale ? halved : rules.min_loss_scale;
}

// The state that the optimizer reads in this step. norm and multiplier use the scale that the
// gradients were made with; loss_scale and grad_seed are already those of the next step. A skipped
// step leaves updates and lr as they are, and sets grad_multiplier to 0.
LOCKSTEP_HOST_DEVICE inline StepState advance(StepState state, const StepVerdict& verdict,
                                              const StepRules& rules) {
  const double unscale = unscale_factor(rules, verdict.valid_tokens, state.loss_scale);
  const double norm = std::sqrt(verdict.norm_squared) * unscale;
  state.grad_norm = static_cast<float>(norm);
  state.finite = is_finite(verdict.norm_squared) ? 1 : 0;
  if (state.finite != 0) {
    const bool clips = rules.clip_grad > 0.0f && norm > rules.clip_grad;
    state.grad_multiplier =
        static_cast<float>(clips ? unscale * (rules.clip_grad / norm) : unscale);
    state.updates += 1;
    state.skips_in_row = 0;
    state.lr = learning_rate(rules, state.updates);
    scaler_grow(state, rules);
  } else {
    state.grad_multiplier = 0.0f;
    state.skipped += 1;
    state.skips_in_row += 1;
    scaler_back_off(state, rules);
  }
  state.grad_seed = state.loss_scale / rules.micro_tokens;
  return state;
}

// 1 - beta^updates, AdamW's bias correction, by binary powers: no libm, so equal on every machine.
LOCKSTEP_HOST_DEVICE inline double bias_correction(double beta, std::int64_t updates) {
  double power = 1.0;
  double factor = beta;
  for (std::int64_t n = updates; n > 0; n >>= 1) {
    if ((n & 1) != 0) power *= factor;
    factor *= factor;
  }
  return 1.0 - power;
}

}  // namespace lockstep

#undef LOCKSTEP_HOST_DEVICE
