// The end of a step: gradient norms, the decision as an op, and AdamW, each against float64, with
// the CUDA backend against the CPU. The decision's own rules: tests/kernels/step_rules_test.cpp.
#include "ops/optimizer.h"

#include "ops/scratch.h"
#include "support/perf.h"
#include "support/support.h"

#include <cmath>
#include <limits>

namespace lockstep {
namespace {

using namespace lockstep::test;

using Values = std::vector<double>;

// Tensors of these sizes, cut into items as the trainer cuts them; 8 elements of padding after
// each tensor belong to no item. Segment 1 and 4 have no item.
struct Layout {
  std::vector<WorkItem> items;
  std::int64_t elements = 0;
  std::int64_t segments = 0;
};

Layout layout() {
  Layout result;
  const auto add = [&](std::int64_t size, std::int32_t segment, std::int32_t decay) {
    for (std::int64_t begin = 0; begin < size; begin += kWorkItemElements) {
      WorkItem item;
      item.begin = result.elements + begin;
      item.count = static_cast<std::int32_t>(std::min(kWorkItemElements, size - begin));
      item.segment = segment;
      item.decay = decay;
      result.items.push_back(item);
    }
    result.elements += size + 8;
  };
  add(1, 0, 0);
  add(3 * kWorkItemElements + 5, 2, 1);
  add(130, 3, 0);
  add(kWorkItemElements, 5, 1);
  add(1027, 6, 1);
  result.segments = 7;
  return result;
}

bool in_an_item(const Layout& l, std::int64_t element) {
  for (const WorkItem& item : l.items) {
    if (element >= item.begin && element < item.begin + item.count) return true;
  }
  return false;
}

constexpr double kUntouched = 123.25;

Outputs run_norm(Machine& machine, const Values& grads) {
  const Layout l = layout();
  Buffers buffers(machine);
  GradNormArgs args;
  args.sums = buffers.inout({l.segments}, DType::kF64,
                            Values(static_cast<std::size_t>(l.segments), kUntouched));
  args.grads = buffers.input({l.elements}, DType::kF32, grads);
  args.items = buffers.objects<WorkItem>(l.items);
  args.item_count = static_cast<std::int64_t>(l.items.size());
  ScratchQuery query;
  query.work_items = args.item_count;
  args.scratch = buffers.scratch(ops::scratch_bytes(query, *machine.stream));
  ops::grad_norm(args, *machine.stream);
  buffers.check();
  return {{"sums", buffers.read(args.sums)}};
}

// Elements outside the items are NaN: they must not count. One value is too large to square in
// fp32.
Values gradients() {
  const Layout l = layout();
  Values grads = rounded(random_values(l.elements, 1), DType::kF32);
  for (std::int64_t i = 0; i < l.elements; ++i) {
    if (!in_an_item(l, i)) grads[static_cast<std::size_t>(i)] = std::nan("");
  }
  grads[static_cast<std::size_t>(l.items.back().begin)] = 0x1p100;
  return grads;
}

// Squares of fp32 are exact in fp64; 2^18 additions of positive terms cost at most 2^18 * 2^-53.
Expectations expected_norm(const Values& grads) {
  const Layout l = layout();
  Values sums(static_cast<std::size_t>(l.segments), 0.0);
  for (const std::size_t empty : {1, 4}) sums[empty] = kUntouched;
  for (const WorkItem& item : l.items) {
    for (std::int64_t i = item.begin; i < item.begin + item.count; ++i) {
      const double g = grads[static_cast<std::size_t>(i)];
      sums[static_cast<std::size_t>(item.segment)] += g * g;
    }
  }
  return {{"sums", {sums, 0x1p-34}}};
}

// The huge last segment would drown the others in one norm: each sum is compared by itself.
void expect_norms(const Outputs& outputs, const Expectations& expected) {
  const Expected& want = expected.at("sums");
  for (std::size_t s = 0; s < want.values.size(); ++s) {
    SCOPED_TRACE(fmt::format("segment {}", s));
    expect_close({{"sum", {outputs.at("sums")[s]}}}, {{"sum", {{want.values[s]}, want.tolerance}}});
  }
}

void expect_bad_values_show(Machine& machine) {
  const Layout l = layout();
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    for (const WorkItem& item : l.items) {
      Values grads = rounded(random_values(l.elements, 1), DType::kF32);
      grads[static_cast<std::size_t>(item.begin + item.count - 1)] = bad;
      const Values sums = run_norm(machine, grads).at("sums");
      for (std::size_t s = 0; s < sums.size(); ++s) {
        EXPECT_EQ(std::isfinite(sums[s]), static_cast<std::int32_t>(s) != item.segment)
            << bad << " in segment " << item.segment << ", sum " << s;
      }
    }
  }
}

TEST(GradNorm, MatchesFloat64) {
  Machine cpu = open_cpu();
  expect_norms(run_norm(cpu, gradients()), expected_norm(gradients()));
  expect_bad_values_show(cpu);
}

TEST(GradNorm, IsTheSameAtAnyThreadCount) {
  expect_thread_independent([](Machine& machine) { return run_norm(machine, gradients()); });
}

TEST(GradNorm, CudaMatchesCpu) {
  LOCKSTEP_OPEN_CUDA(cuda);
  Machine cpu = open_cpu();
  const Values grads = gradients();
  at_any_alignment(cuda, [&] {
    expect_norms(run_norm(cuda, grads), like(run_norm(cpu, grads), expected_norm(grads), 2.0));
    expect_bad_values_show(cuda);
  });
}

StepRules rules() {
  StepRules r;
  r.micro_tokens = 48.0f;
  r.clip_grad = 1.0f;
  r.dynamic_scale = true;
  r.growth_interval = 2;
  r.peak_lr = 1e-3f;
  r.final_lr_fraction = 0.1f;
  r.warmup_steps = 2;
  r.total_steps = 9;
  return r;
}

// Thirteen steps, two of them overflowing, as (state after each step) in one row of numbers.
Values run_steps(Machine& machine) {
  constexpr std::int64_t kSegments = 300;
  Buffers buffers(machine);
  StepState state;
  state.loss_scale = 65536.0f;
  StepState* on_device = buffers.objects<StepState>({state});
  Values history;
  for (int step = 0; step < 13; ++step) {
    Values verdict = random_values(kSegments + 5, static_cast<std::uint64_t>(step), 1e9);
    for (double& v : verdict) v = std::abs(v);
    if (step == 5) verdict[299] = std::numeric_limits<double>::infinity();
    if (step == 6) verdict[0] = std::nan("");
    verdict[kSegments + 1] = 40.0 + step;  // valid tokens
    StepUpdateArgs args;
    args.state = on_device;
    args.verdict = buffers.input({kSegments + 5}, DType::kF64, verdict);
    args.segments = kSegments;
    args.rules = rules();
    ops::step_update(args, *machine.stream);
    const StepState now = buffers.object(on_device);
    for (const double x :
         {double{now.loss_scale}, double{now.grad_seed}, double{now.lr},
          double{now.grad_multiplier}, static_cast<double>(now.finite),
          static_cast<double>(now.good_steps), static_cast<double>(now.skips_in_row),
          static_cast<double>(now.updates), static_cast<double>(now.skipped)}) {
      history.push_back(x);
    }
    if (now.finite != 0) history.push_back(double{now.grad_norm});
  }
  buffers.check();
  return history;
}

TEST(StepUpdate, RunsOnTheDeviceState) {
  Machine cpu = open_cpu();
  const Values history = run_steps(cpu);
  const std::size_t last = history.size() - 10;  // the row of step 12, which is finite
  EXPECT_EQ(history[last + 7], 11.0);            // updates
  EXPECT_EQ(history[last + 8], 2.0);             // skipped
  // 65536: grown at steps 1 and 3, step 4 counts 1, halved twice, grown at steps 8, 10 and 12.
  EXPECT_EQ(history[last], 65536.0 * 8.0);
  // Verdict: norm^2 = 300 segments' sum at scale 262144 (the scale of step 12's gradients).
  double squares = 0.0;
  const Values verdict = random_values(305, 12, 1e9);
  for (std::size_t s = 0; s < 300; ++s) squares += std::abs(verdict[s]);
  EXPECT_NEAR(history[last + 9], std::sqrt(squares) * 48.0 / (52.0 * 262144.0), 1e-6);
}

// The same header runs on both; only cos() may differ, by less than fp32 shows twice.
TEST(StepUpdate, CudaMatchesCpu) {
  LOCKSTEP_OPEN_CUDA(cuda);
  Machine cpu = open_cpu();
  const Values expected = run_steps(cpu);
  const Values history = run_steps(cuda);
  ASSERT_EQ(history.size(), expected.size());
  for (std::size_t i = 0; i < history.size(); ++i) {
    EXPECT_NEAR(history[i], expected[i], 0x1p-23 * std::abs(expected[i])) << "value " << i;
  }
}

// The optimizer's whole state on the host, and its float64 update.
struct Training {
  Values master, moment1, moment2, grads;
};

Training training() {
  const std::int64_t n = layout().elements;
  Training t;
  t.master = rounded(random_values(n, 1), DType::kF32);
  t.moment1 = rounded(random_values(n, 2, 1e-3), DType::kF32);
  t.moment2 = random_values(n, 3, 1e-5);
  for (double& v : t.moment2) v = std::abs(v);
  t.moment2 = rounded(t.moment2, DType::kF32);
  t.grads = rounded(random_values(n, 4, 8.0), DType::kF32);
  return t;
}

StepState adam_state(bool finite) {
  StepState state;
  state.finite = finite ? 1 : 0;
  state.updates = 7;
  state.lr = 3e-3f;
  state.grad_multiplier = 0x1p-10f;
  return state;
}

AdamWArgs adam_hyper() {
  AdamWArgs args;
  args.beta1 = 0.9f;
  args.beta2 = 0.95f;
  args.eps = 1e-8f;
  args.weight_decay = 0.1f;
  return args;
}

// One update; weights start as 0.
Outputs run_adam(Machine& machine, DType weights, bool finite) {
  const Layout l = layout();
  const Training t = training();
  Buffers buffers(machine);
  const StepState state = adam_state(finite);
  AdamWArgs args = adam_hyper();
  const Shape flat{l.elements};
  args.master = buffers.inout(flat, DType::kF32, t.master);
  args.moment1 = buffers.inout(flat, DType::kF32, t.moment1);
  args.moment2 = buffers.inout(flat, DType::kF32, t.moment2);
  args.grads = buffers.inout(flat, DType::kF32, t.grads);
  if (weights != DType::kF32) args.weights = buffers.inout(flat, weights, Values(t.grads.size()));
  args.items = buffers.objects<WorkItem>(l.items);
  args.item_count = static_cast<std::int64_t>(l.items.size());
  args.state = buffers.objects<StepState>({state});
  ops::adamw(args, *machine.stream);
  buffers.check();
  Outputs outputs{{"master", buffers.read(args.master)},
                  {"moment1", buffers.read(args.moment1)},
                  {"moment2", buffers.read(args.moment2)},
                  {"grads", buffers.read(args.grads)}};
  if (args.weights) outputs["weights"] = buffers.read(args.weights);
  return outputs;
}

// fp32 arithmetic: the moments take 3 roundings, the weight 2 of its own size, and the step (at
// most 1e-2 of the weight here) some more; the compute copy is the master, rounded.
Expectations expected_adam(const Outputs& outputs) {
  const Layout l = layout();
  const AdamWArgs hyper = adam_hyper();
  const StepState state = adam_state(true);
  Training t = training();
  const double c1 = 1.0 - std::pow(double{hyper.beta1}, 7.0);
  const double c2 = 1.0 - std::pow(double{hyper.beta2}, 7.0);
  for (const WorkItem& item : l.items) {
    for (std::int64_t e = item.begin; e < item.begin + item.count; ++e) {
      const auto i = static_cast<std::size_t>(e);
      const double g = t.grads[i] * double{state.grad_multiplier};
      t.moment1[i] = double{hyper.beta1} * t.moment1[i] + (1.0 - double{hyper.beta1}) * g;
      t.moment2[i] = double{hyper.beta2} * t.moment2[i] + (1.0 - double{hyper.beta2}) * g * g;
      const double decay = item.decay != 0 ? double{hyper.weight_decay} * t.master[i] : 0.0;
      const double direction =
          t.moment1[i] / c1 / (std::sqrt(t.moment2[i] / c2) + double{hyper.eps});
      t.master[i] -= double{state.lr} * (direction + decay);
      t.grads[i] = 0.0;
    }
  }
  Expectations expected{{"master", {t.master, 4.0 * 0x1p-24}},
                        {"moment1", {t.moment1, 4.0 * 0x1p-24}},
                        {"moment2", {t.moment2, 4.0 * 0x1p-24}},
                        {"grads", {t.grads, 0.0}}};
  if (outputs.count("weights") != 0) expected["weights"] = {t.master, 1.0};  // refined below
  return expected;
}

// The compute copy is exactly the master it came with, rounded, on items, and untouched elsewhere.
void expect_rounded_copy(const Outputs& outputs, DType dtype) {
  const Layout l = layout();
  Values expected = rounded(outputs.at("master"), dtype);
  for (std::int64_t i = 0; i < l.elements; ++i) {
    if (!in_an_item(l, i)) expected[static_cast<std::size_t>(i)] = 0.0;
  }
  EXPECT_EQ(outputs.at("weights"), expected);
}

void expect_adam(Machine& machine) {
  for (const DType dtype : kStorageTypes) {
    SCOPED_TRACE(name_of(dtype));
    const Outputs outputs = run_adam(machine, dtype, /*finite=*/true);
    expect_close(outputs, expected_adam(outputs));
    if (dtype != DType::kF32) expect_rounded_copy(outputs, dtype);
  }
}

// A skipped step changes nothing but the gradients, which it zeroes (on the items).
void expect_skip(Machine& machine) {
  const Layout l = layout();
  Training t = training();
  for (const WorkItem& item : l.items) std::fill_n(t.grads.begin() + item.begin, item.count, 0.0);
  const Outputs outputs = run_adam(machine, DType::kBF16, /*finite=*/false);
  EXPECT_EQ(outputs.at("master"), t.master);
  EXPECT_EQ(outputs.at("moment1"), t.moment1);
  EXPECT_EQ(outputs.at("moment2"), t.moment2);
  EXPECT_EQ(outputs.at("grads"), t.grads);
  EXPECT_EQ(outputs.at("weights"), Values(t.grads.size()));
}

TEST(AdamW, MatchesFloat64) {
  Machine cpu = open_cpu();
  expect_adam(cpu);
}

TEST(AdamW, SkippedStepOnlyZeroesGradients) {
  Machine cpu = open_cpu();
  expect_skip(cpu);
}

TEST(AdamW, IsTheSameAtAnyThreadCount) {
  expect_thread_independent([](Machine& machine) { return run_adam(machine, DType::kF16, true); });
}

TEST(AdamW, CudaMatchesCpu) {
  LOCKSTEP_OPEN_CUDA(cuda);
  Machine cpu = open_cpu();
  at_any_alignment(cuda, [&] {
    expect_adam(cuda);
    expect_skip(cuda);
    const Outputs outputs = run_adam(cpu, DType::kF32, true);
    expect_close(run_adam(cuda, DType::kF32, true), like(outputs, expected_adam(outputs), 2.0));
  });
}

LOCKSTEP_PERF(Optimizer) {
  constexpr std::int64_t kParameters = std::int64_t{124} << 20;
  std::vector<WorkItem> items;
  for (std::int64_t begin = 0; begin < kParameters; begin += kWorkItemElements) {
    items.push_back({begin, static_cast<std::int32_t>(kWorkItemElements),
                     static_cast<std::int32_t>(begin >> 20), 1, 0});
  }
  StepState state;
  state.updates = 1;
  const Tensor grads = perf.values({kParameters}, DType::kF32);
  const ScratchQuery query{.attention = {}, .work_items = static_cast<std::int64_t>(items.size())};
  const GradNormArgs norm{
      .sums = Tensor(perf.bytes(124 * sizeof(double)).data, {124}, DType::kF64, grads.device),
      .grads = grads,
      .items = perf.objects(items),
      .item_count = static_cast<std::int64_t>(items.size()),
      .scratch = perf.bytes(ops::scratch_bytes(query, perf.stream()))};
  perf.measure("grad_norm 124 Mi", {.bytes = static_cast<double>(grads.bytes())},
               [&] { ops::grad_norm(norm, perf.stream()); });
  const AdamWArgs adam{.master = perf.values({kParameters}, DType::kF32),
                       .moment1 = perf.values({kParameters}, DType::kF32),
                       .moment2 = perf.values({kParameters}, DType::kF32),
                       .grads = grads,
                       .weights = perf.values({kParameters}, DType::kBF16),
                       .items = norm.items,
                       .item_count = norm.item_count,
                       .state = perf.objects(std::vector{state})};
  perf.measure("adamw 124 Mi bf16", {.bytes = 34.0 * static_cast<double>(kParameters)},
               [&] { ops::adamw(adam, perf.stream()); });
}

}  // namespace
}  // namespace lockstep
