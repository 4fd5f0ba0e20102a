// The full transition table of the loss scaler, clipping and unscaling, and every schedule: the
// pure functions that both backends run.
#include "kernels/step_rules.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>

namespace lockstep {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

StepRules dynamic_rules() {
  StepRules rules;
  rules.micro_tokens = 1024.0f;
  rules.dynamic_scale = true;
  rules.growth_interval = 3;
  rules.peak_lr = 1e-3f;
  rules.schedule = StepRules::Schedule::kConstant;
  return rules;
}

StepState state_of(float scale, std::int32_t good_steps) {
  StepState state;
  state.loss_scale = scale;
  state.good_steps = good_steps;
  state.updates = 10;
  state.skipped = 4;
  state.skips_in_row = 2;
  state.lr = 0.25f;
  return state;
}

// One row of the table: from (scale, good_steps) by a finite or an overflowing step.
struct Transition {
  float scale;
  std::int32_t good_steps;
  bool finite;
  float next_scale;
  std::int32_t next_good_steps;
};

void expect_transition(const Transition& t, const StepRules& rules) {
  SCOPED_TRACE(testing::Message() << "scale " << t.scale << ", good steps " << t.good_steps
                                  << (t.finite ? ", finite" : ", overflow"));
  const StepVerdict verdict{t.finite ? 4.0 : kInfinity, 512.0};
  const StepState next = advance(state_of(t.scale, t.good_steps), verdict, rules);
  EXPECT_EQ(next.loss_scale, t.next_scale);
  EXPECT_EQ(next.good_steps, t.next_good_steps);
  EXPECT_EQ(next.finite, t.finite ? 1 : 0);
  EXPECT_EQ(next.updates, t.finite ? 11 : 10);
  EXPECT_EQ(next.skipped, t.finite ? 4 : 5);
  EXPECT_EQ(next.skips_in_row, t.finite ? 0 : 3);
  EXPECT_EQ(next.lr, t.finite ? 1e-3f : 0.25f);
  EXPECT_EQ(next.grad_seed, t.next_scale / 1024.0f);  // of the next step
  // Of this step: the old scale.
  EXPECT_EQ(next.grad_multiplier, t.finite ? 1024.0f / (512.0f * t.scale) : 0.0f);
}

TEST(LossScaler, TransitionTable) {
  StepRules rules = dynamic_rules();
  rules.min_loss_scale = 2.0f;
  rules.max_loss_scale = 131072.0f;
  const Transition table[] = {
      {65536.0f, 0, true, 65536.0f, 1},      // counting
      {65536.0f, 1, true, 65536.0f, 2},      //
      {65536.0f, 2, true, 131072.0f, 0},     // growth resets the counter
      {131072.0f, 2, true, 131072.0f, 0},    // at the cap
      {100000.0f, 2, true, 131072.0f, 0},    // growth stops at the cap
      {1048576.0f, 2, true, 1048576.0f, 0},  // an initial scale above the cap is left alone
      {65536.0f, 0, false, 32768.0f, 0},     // overflow
      {65536.0f, 2, false, 32768.0f, 0},     // overflow resets the counter
      {1048576.0f, 1, false, 524288.0f, 0},  //
      {4.0f, 0, false, 2.0f, 0},             // down to the floor
      {3.0f, 0, false, 2.0f, 0},             // never below it
      {2.0f, 1, false, 2.0f, 0},             //
      {2.0f, 2, true, 4.0f, 0},              // and up again
  };
  for (const Transition& t : table) expect_transition(t, rules);
}

TEST(LossScaler, FixedScaleNeverMoves) {
  StepRules rules = dynamic_rules();
  rules.dynamic_scale = false;
  for (const std::int32_t good_steps : {0, 2, 5000}) {
    expect_transition({1.0f, good_steps, true, 1.0f, good_steps}, rules);
    expect_transition({1.0f, good_steps, false, 1.0f, 0}, rules);
  }
}

// The published run: 65536, doubled after 2000 finite steps in a row, whatever came before.
TEST(LossScaler, GrowsAfterTwoThousandFiniteStepsInARow) {
  StepRules rules = dynamic_rules();
  rules.growth_interval = 2000;
  StepState state;
  state.loss_scale = 65536.0f;
  const auto run = [&](int steps, double norm_squared) {
    for (int i = 0; i < steps; ++i) state = advance(state, {norm_squared, 512.0}, rules);
  };
  run(1999, 1.0);
  EXPECT_EQ(state.loss_scale, 65536.0f);
  run(1, std::nan(""));
  EXPECT_EQ(state.loss_scale, 32768.0f);
  run(1999, 1.0);
  EXPECT_EQ(state.loss_scale, 32768.0f);
  run(1, 1.0);
  EXPECT_EQ(state.loss_scale, 65536.0f);
  run(4000, 1.0);
  EXPECT_EQ(state.loss_scale, 262144.0f);
  EXPECT_EQ(state.updates, 1999 + 2000 + 4000);
  EXPECT_EQ(state.skipped, 1);
}

// 2^30 in fp16 overflows step after step until it fits; each costs one halving and one skip.
TEST(LossScaler, ComesDownFromAScaleThatIsTooLarge) {
  const StepRules rules = dynamic_rules();
  StepState state;
  state.loss_scale = 0x1p30f;
  for (int i = 0; i < 12; ++i) state = advance(state, {kInfinity, 512.0}, rules);
  EXPECT_EQ(state.loss_scale, 0x1p18f);
  EXPECT_EQ(state.skips_in_row, 12);
  EXPECT_EQ(state.updates, 0);
  for (int i = 0; i < 40; ++i) state = advance(state, {kInfinity, 512.0}, rules);
  EXPECT_EQ(state.loss_scale, 1.0f);
}

TEST(Clipping, ScalesOnlyLargeNorms) {
  StepRules rules = dynamic_rules();
  const StepState before = state_of(4.0f, 0);
  const double unscale = 1024.0 / (512.0 * 4.0);  // 0.5
  const auto multiplier = [&](double norm, float clip) {
    rules.clip_grad = clip;
    const double scaled = norm / unscale;
    const StepState next = advance(before, {scaled * scaled, 512.0}, rules);
    EXPECT_FLOAT_EQ(next.grad_norm, static_cast<float>(norm));  // before clipping
    return next.grad_multiplier;
  };
  EXPECT_FLOAT_EQ(multiplier(0.5, 1.0f), 0.5f);
  EXPECT_FLOAT_EQ(multiplier(1.0, 1.0f), 0.5f);
  EXPECT_FLOAT_EQ(multiplier(8.0, 1.0f), 0.5f / 8.0f);
  EXPECT_FLOAT_EQ(multiplier(8.0, 0.0f), 0.5f);  // 0: off
  EXPECT_FLOAT_EQ(multiplier(0.0, 1.0f), 0.5f);
}

TEST(Clipping, AStepWithoutValidTokensStaysFinite) {
  const StepState next = advance(state_of(1.0f, 0), {0.0, 0.0}, dynamic_rules());
  EXPECT_EQ(next.finite, 1);
  EXPECT_TRUE(std::isfinite(next.grad_multiplier));
  EXPECT_EQ(next.grad_norm, 0.0f);
}

StepRules schedule_rules(StepRules::Schedule schedule) {
  StepRules rules;
  rules.micro_tokens = 1.0f;
  rules.schedule = schedule;
  rules.peak_lr = 2.0f;
  rules.final_lr_fraction = 0.25f;
  rules.warmup_steps = 4;
  rules.total_steps = 14;
  rules.decay_steps = 4;
  return rules;
}

TEST(Schedule, WarmUpIsLinearFromTheFirstUpdate) {
  for (const auto schedule : {StepRules::Schedule::kConstant, StepRules::Schedule::kLinear,
                              StepRules::Schedule::kCosine, StepRules::Schedule::kWsd}) {
    const StepRules rules = schedule_rules(schedule);
    for (const std::int64_t u : {1, 2, 3, 4}) EXPECT_FLOAT_EQ(learning_rate(rules, u), 0.5f * u);
    EXPECT_LE(learning_rate(rules, 5), 2.0f);
  }
}

TEST(Schedule, ReachesTheFinalRateAtTheEndAndStaysThere) {
  for (const auto schedule :
       {StepRules::Schedule::kLinear, StepRules::Schedule::kCosine, StepRules::Schedule::kWsd}) {
    const StepRules rules = schedule_rules(schedule);
    EXPECT_FLOAT_EQ(learning_rate(rules, 14), 0.5f);
    EXPECT_FLOAT_EQ(learning_rate(rules, 500), 0.5f);
  }
  EXPECT_FLOAT_EQ(learning_rate(schedule_rules(StepRules::Schedule::kConstant), 14), 2.0f);
}

// A run of one step, one update after the warm-up, one update of wsd's decay.
TEST(Schedule, ADecayOfOneUpdateTrainsAtThePeak) {
  for (const auto schedule :
       {StepRules::Schedule::kLinear, StepRules::Schedule::kCosine, StepRules::Schedule::kWsd}) {
    StepRules rules = schedule_rules(schedule);
    rules.final_lr_fraction = 0.0f;
    rules.decay_steps = 1;
    for (const std::int64_t warmup : {0, 4}) {
      rules.warmup_steps = warmup;
      rules.total_steps = warmup + 1;
      EXPECT_FLOAT_EQ(learning_rate(rules, warmup + 1), 2.0f);
      EXPECT_FLOAT_EQ(learning_rate(rules, warmup + 2), 0.0f);
    }
    rules.total_steps = 14;
    EXPECT_EQ(learning_rate(rules, 14) == 2.0f, schedule == StepRules::Schedule::kWsd);
  }
}

TEST(Schedule, Shapes) {
  const StepRules linear = schedule_rules(StepRules::Schedule::kLinear);
  EXPECT_FLOAT_EQ(learning_rate(linear, 9), 1.25f);  // half of the way from 2 to 0.5
  EXPECT_FLOAT_EQ(learning_rate(linear, 5), 2.0f - 0.15f);
  const StepRules cosine = schedule_rules(StepRules::Schedule::kCosine);
  EXPECT_FLOAT_EQ(learning_rate(cosine, 9), 1.25f);
  const double fifth = 0.5 * (1.0 + std::cos(std::numbers::pi / 5.0));
  EXPECT_FLOAT_EQ(learning_rate(cosine, 6), static_cast<float>(0.5 + 1.5 * fifth));
  const StepRules wsd = schedule_rules(StepRules::Schedule::kWsd);
  EXPECT_FLOAT_EQ(learning_rate(wsd, 10), 2.0f);                // stable until total - decay
  EXPECT_FLOAT_EQ(learning_rate(wsd, 11), 0.5f + 1.5f * 0.5f);  // 1 - sqrt(1/4)
}

TEST(Schedule, WithoutWarmUpStartsAtThePeak) {
  StepRules rules = schedule_rules(StepRules::Schedule::kConstant);
  rules.warmup_steps = 0;
  EXPECT_FLOAT_EQ(learning_rate(rules, 1), 2.0f);
}

TEST(BiasCorrection, MatchesPow) {
  for (const double beta : {0.0, 0.9, 0.95, 0.999}) {
    for (const std::int64_t updates : {1, 2, 3, 10, 1000, 1000000}) {
      const double expected = 1.0 - std::pow(beta, static_cast<double>(updates));
      EXPECT_NEAR(bias_correction(beta, updates), expected, 1e-14);
    }
  }
}

}  // namespace
}  // namespace lockstep
