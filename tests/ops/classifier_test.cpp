// The loss and its gradient against float64 and finite differences; masks, padding, ties, thread
// counts, totals, and CUDA against the CPU.
#include "ops/classifier.h"

#include "support/perf.h"
#include "support/support.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lockstep {
namespace {

using namespace lockstep::test;

using Values = std::vector<double>;

struct Case {
  std::int64_t N, vocab, padded;
  double spread;  // logits lie in +-spread
};

const Case kCases[] = {{1, 1, 1, 1.0},        {3, 2, 8, 2.0},       {5, 7, 7, 4.0},
                       {17, 255, 256, 4.0},   {16, 256, 256, 8.0},  {9, 1000, 1024, 30.0},
                       {4, 1023, 1152, 80.0}, {2, 5121, 5248, 5.0}, {70, 65, 128, 3.0}};

constexpr float kSeed = 3.5f;

struct Problem {
  Case c;
  Values logits;  // (N, vocab)
  std::vector<std::int32_t> targets;
};

// Every third target is masked, by -1 or -100; rows 1 and 2 have two equal largest logits, with
// the target on the second and on the first of them.
Problem problem(const Case& c, DType dtype) {
  Problem p{c, rounded(random_values(c.N * c.vocab, 1, c.spread), dtype),
            random_ints(c.N, 2, static_cast<std::int32_t>(c.vocab))};
  for (std::size_t r = 3; r < p.targets.size(); r += 3) p.targets[r] = r % 2 == 0 ? -1 : -100;
  if (c.N > 2 && c.vocab > 2) {
    for (const std::size_t r : {std::size_t{1}, std::size_t{2}}) {
      const std::size_t row = r * static_cast<std::size_t>(c.vocab);
      p.logits[row] = p.logits[row + 2] = rounded({c.spread * 1.5}, dtype)[0];
      p.targets[r] = r == 1 ? 2 : 0;
    }
  }
  return p;
}

struct Result {
  Values losses, correct, gradient;  // gradient (N, padded)
};

Result classify(const Problem& p) {
  const auto V = static_cast<std::size_t>(p.c.vocab);
  Result result{{}, {}, Values(p.targets.size() * static_cast<std::size_t>(p.c.padded))};
  for (std::size_t r = 0; r < p.targets.size(); ++r) {
    const auto begin = p.logits.begin() + static_cast<std::ptrdiff_t>(r * V);
    const auto largest = std::max_element(begin, begin + p.c.vocab);  // the first of them
    const std::int32_t target = p.targets[r];
    result.correct.push_back(target >= 0 && largest - begin == target ? 1.0 : 0.0);
    double sum = 0.0;
    for (std::size_t i = 0; i < V; ++i) sum += std::exp(p.logits[r * V + i] - *largest);
    const double lse = *largest + std::log(sum);
    result.losses.push_back(target < 0 ? 0.0 : lse - begin[target]);
    if (target < 0) continue;
    double* gradient = &result.gradient[r * static_cast<std::size_t>(p.c.padded)];
    for (std::size_t i = 0; i < V; ++i) gradient[i] = kSeed * std::exp(p.logits[r * V + i] - lse);
    gradient[target] -= static_cast<double>(kSeed);
  }
  return result;
}

// Padding columns hold NaN, which must reach nothing.
Values padded(const Problem& p) {
  Values all;
  for (std::int64_t i = 0; i < p.c.N * p.c.padded; ++i) {
    const std::int64_t row = i / p.c.padded;
    const std::int64_t column = i % p.c.padded;
    all.push_back(column < p.c.vocab ? p.logits[static_cast<std::size_t>(row * p.c.vocab + column)]
                                     : std::numeric_limits<double>::quiet_NaN());
  }
  return all;
}

Outputs run(Machine& machine, const Problem& p, DType dtype) {
  Buffers buffers(machine);
  StepState state;
  state.grad_seed = kSeed;
  ClassifierArgs args;
  args.vocab = p.c.vocab;
  args.targets = buffers.ints(p.targets);
  args.losses = buffers.output({p.c.N}, DType::kF32);
  args.correct = buffers.output({p.c.N}, DType::kU8);
  args.logits = buffers.input({p.c.N, p.c.padded}, dtype, padded(p));
  ops::classifier(args, *machine.stream);  // the logits must not change
  Outputs outputs{{"losses", buffers.read(args.losses)}, {"correct", buffers.read(args.correct)}};
  args.correct = {};
  args.losses = buffers.output({p.c.N}, DType::kF32);
  args.logits = buffers.inout({p.c.N, p.c.padded}, dtype, padded(p));
  args.write_gradient = true;
  args.state = buffers.objects<StepState>({state});
  ops::classifier(args, *machine.stream);
  outputs["losses with gradient"] = buffers.read(args.losses);
  outputs["gradient"] = buffers.read(args.logits);
  buffers.check();
  return outputs;
}

// x - max is rounded at up to 2.5 spread (2^-24 of it), which becomes the relative error of the
// exponential; sums of V positive terms in blocks add under 32 roundings, log and exp under 8. A
// loss is a difference of numbers up to 1.5 spread. The gradient is stored once.
Expectations reference(const Problem& p, DType dtype) {
  const Result result = classify(p);
  const double error = 0x1p-24 * (40.0 + 2.5 * p.c.spread);
  return {{"losses", {result.losses, error}},
          {"losses with gradient", {result.losses, error}},
          {"correct", {result.correct, 0.0}},
          {"gradient", {result.gradient, error + unit_roundoff(dtype)}}};
}

template <typename Function>
void for_each_case(const Function& function) {
  for (const DType dtype : kStorageTypes) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(fmt::format("N{} vocab {}/{} spread {} {}", c.N, c.vocab, c.padded, c.spread,
                               name_of(dtype)));
      function(problem(c, dtype), dtype);
    }
  }
}

TEST(Classifier, MatchesFloat64) {
  Machine cpu = open_cpu();
  for_each_case([&](const Problem& p, DType dtype) {
    expect_close(run(cpu, p, dtype), reference(p, dtype));
  });
}

TEST(Classifier, Float64GradientMatchesFiniteDifferences) {
  const Problem p = problem({6, 9, 9, 3.0}, DType::kF64);
  const VectorFunction f = [&](const Values& logits) {
    return classify({p.c, logits, p.targets}).losses;
  };
  const Values weights(p.targets.size(), static_cast<double>(kSeed));
  // Central differences with step 1e-5: error near 1e-10 of values near 1.
  EXPECT_LE(relative_error(classify(p).gradient, numeric_gradient(f, p.logits, weights)), 1e-8);
}

TEST(Classifier, IsTheSameAtAnyThreadCount) {
  for_each_case([](const Problem& p, DType dtype) {
    expect_thread_independent([&](Machine& machine) { return run(machine, p, dtype); });
  });
}

// Both sides are within the tolerance of the exact result; `correct` must agree exactly.
TEST(Classifier, CudaMatchesCpu) {
  LOCKSTEP_OPEN_CUDA(cuda);
  Machine cpu = open_cpu();
  at_any_alignment(cuda, [&] {
    for_each_case([&](const Problem& p, DType dtype) {
      expect_close(run(cuda, p, dtype), like(run(cpu, p, dtype), reference(p, dtype), 2.0));
    });
  });
}

// A loss that is not a number must stay one: overflow is detected from it.
TEST(Classifier, NotANumberIsNotHidden) {
  Machine cpu = open_cpu();
  Problem p = problem({1, 40, 40, 1.0}, DType::kF32);
  p.logits[17] = std::numeric_limits<double>::quiet_NaN();
  const Outputs outputs = run(cpu, p, DType::kF32);
  EXPECT_TRUE(std::isnan(outputs.at("losses")[0]));
  EXPECT_TRUE(std::isnan(outputs.at("gradient")[17]));
}

Values run_totals(Machine& machine, const std::vector<double>& losses,
                  const std::vector<double>& correct, const std::vector<std::int32_t>& targets) {
  const auto N = static_cast<std::int64_t>(targets.size());
  Buffers buffers(machine);
  LossTotals args;
  args.totals = buffers.inout({3}, DType::kF64, {0.5, 1.0, 2.0});
  args.losses = buffers.input({N}, DType::kF32, losses);
  args.correct = buffers.input({N}, DType::kU8, correct);
  args.targets = buffers.ints(targets);
  ops::loss_totals(args, *machine.stream);
  args.correct = {};
  ops::loss_totals(args, *machine.stream);
  buffers.check();
  return buffers.read(args.totals);
}

// Counts are exact; the loss is a sum of fp32 values in fp64, exact to 2^-53 a term, so 1e-12.
void expect_totals(Machine& machine) {
  for (const std::int64_t N : {1, 2, 31, 33, 256, 257, 1025, 5000}) {
    SCOPED_TRACE(N);
    std::vector<double> losses = rounded(random_values(N, 3), DType::kF32);
    std::vector<std::int32_t> targets = random_ints(N, 4, 9);
    std::vector<double> correct(targets.size());
    double loss = 0.0;
    double valid = 0.0;
    double hits = 0.0;
    for (std::size_t r = 0; r < targets.size(); ++r) {
      if (r % 3 == 1) targets[r] = -1;
      if (targets[r] < 0) losses[r] = 0.0;
      correct[r] = targets[r] == 4 ? 1.0 : 0.0;
      loss += losses[r];
      valid += targets[r] >= 0 ? 1.0 : 0.0;
      hits += correct[r];
    }
    const Values totals = run_totals(machine, losses, correct, targets);
    EXPECT_NEAR(totals[0], 0.5 + 2.0 * loss, 1e-12 * static_cast<double>(N));
    EXPECT_EQ(totals[1], 1.0 + 2.0 * valid);
    EXPECT_EQ(totals[2], 2.0 + hits);
  }
}

TEST(LossTotals, Accumulate) {
  Machine cpu = open_cpu();
  expect_totals(cpu);
}

TEST(LossTotals, AccumulateOnCuda) {
  LOCKSTEP_OPEN_CUDA(cuda);
  at_any_alignment(cuda, [&] { expect_totals(cuda); });
}

LOCKSTEP_PERF(Classifier) {
  StepState state;
  state.grad_seed = 1.0f;
  for (const DType dtype : kStorageTypes) {
    ClassifierArgs args{.logits = perf.values({4096, 50304}, dtype),
                        .losses = perf.values({4096}, DType::kF32),
                        .correct = perf.bytes(4096),
                        .targets = perf.ints({4096}, 50257),
                        .vocab = 50257,
                        .write_gradient = false,
                        .state = perf.objects(std::vector{state})};
    for (const bool gradient : {false, true}) {
      args.write_gradient = gradient;
      perf.measure(fmt::format("classifier 4096 x 50257 {}{}", name_of(dtype),
                               gradient ? " with gradient" : ""),
                   {.bytes = (gradient ? 2.0 : 1.0) * static_cast<double>(args.logits.bytes())},
                   [&] { ops::classifier(args, perf.stream()); });
    }
  }
}

}  // namespace
}  // namespace lockstep
