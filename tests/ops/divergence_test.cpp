// The divergence of two rows of logits against float64: masks, padding, ties, dtypes that differ,
// equal rows, thread counts, and CUDA against the CPU.
#include "ops/divergence.h"

#include "support/support.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lockstep {
namespace {

using namespace lockstep::test;

using Values = std::vector<double>;

struct Case {
  std::int64_t N, vocab, padded, padded_reference;
  double spread, apart;  // logits lie in +-spread, the reference's up to `apart` from them
};

const Case kCases[] = {{1, 1, 1, 1, 1.0, 0.5},         {5, 7, 7, 8, 4.0, 0.1},
                       {17, 255, 256, 255, 4.0, 2.0},  {9, 1000, 1024, 1000, 30.0, 0.01},
                       {4, 1023, 1152, 1100, 60.0, 9}, {2, 5121, 5248, 5121, 5.0, 0.001}};

struct Problem {
  Case c;
  Values logits, reference;  // (N, vocab)
  std::vector<std::int32_t> targets;
};

// Every third target is masked; row 0 has two equal largest logits, of which the first counts.
Problem problem(const Case& c, DType dtype, DType reference_dtype) {
  Problem p{c,
            rounded(random_values(c.N * c.vocab, 1, c.spread), dtype),
            {},
            random_ints(c.N, 2, static_cast<std::int32_t>(c.vocab))};
  const Values steps = random_values(c.N * c.vocab, 3, c.apart);
  for (std::size_t i = 0; i < steps.size(); ++i) p.reference.push_back(p.logits[i] + steps[i]);
  p.reference = rounded(p.reference, reference_dtype);
  for (std::size_t r = 2; r < p.targets.size(); r += 3) p.targets[r] = -1;
  if (c.vocab > 5) {
    p.logits[5] = p.logits[1] = p.reference[1] = rounded({1.5 * c.spread}, DType::kBF16)[0];
    p.targets[0] = 1;
  }
  return p;
}

struct Softmax {
  Values log;  // log probabilities
  std::ptrdiff_t top = 0;
};

Softmax softmax(const Values& logits, std::size_t row, std::size_t vocab) {
  const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(row * vocab);
  Softmax s{Values(begin, begin + static_cast<std::ptrdiff_t>(vocab)), 0};
  s.top = std::max_element(s.log.begin(), s.log.end()) - s.log.begin();
  const double largest = s.log[static_cast<std::size_t>(s.top)];
  double sum = 0.0;
  for (const double x : s.log) sum += std::exp(x - largest);
  for (double& x : s.log) x -= largest + std::log(sum);
  return s;
}

// A difference of logits and of their log sums is off by a few roundings of numbers up to 1.5
// spread, absolutely; so is a loss, and a divergence, which weighs such differences.
Expectations reference(const Problem& p) {
  Values losses, reference_losses, divergences, verdicts;
  for (std::size_t r = 0; r < p.targets.size(); ++r) {
    const auto V = static_cast<std::size_t>(p.c.vocab);
    const Softmax x = softmax(p.logits, r, V);
    const Softmax y = softmax(p.reference, r, V);
    const bool counts = p.targets[r] >= 0;
    const auto target = static_cast<std::size_t>(counts ? p.targets[r] : 0);
    double sum = 0.0;
    for (std::size_t i = 0; i < V; ++i) sum += std::exp(y.log[i]) * (y.log[i] - x.log[i]);
    losses.push_back(counts ? -x.log[target] : 0.0);
    reference_losses.push_back(counts ? -y.log[target] : 0.0);
    divergences.push_back(counts ? sum : 0.0);
    const int verdict = (x.top == p.targets[r] ? DivergenceArgs::kRight : 0) +
                        (y.top == p.targets[r] ? DivergenceArgs::kReferenceRight : 0) +
                        (x.top == y.top ? DivergenceArgs::kSameTop : 0);
    verdicts.push_back(counts ? verdict : 0);
  }
  const auto size = [](const Values& values) {
    double squares = 0.0;
    for (const double v : values) squares += v * v;
    return std::max(std::sqrt(squares / static_cast<double>(values.size())), 1e-30);
  };
  const double absolute = 0x1p-24 * (16.0 + 4.0 * p.c.spread);
  return {{"losses", {losses, absolute / size(losses) + 0x1p-20}},
          {"reference losses", {reference_losses, absolute / size(reference_losses) + 0x1p-20}},
          {"divergences", {divergences, absolute / size(divergences) + 0x1p-20}},
          {"verdicts", {verdicts, 0.0}}};
}

// Padding columns hold NaN, which must reach nothing.
Values padded(const Values& values, const Case& c, std::int64_t columns) {
  Values all(static_cast<std::size_t>(c.N * columns), std::numeric_limits<double>::quiet_NaN());
  for (std::int64_t r = 0; r < c.N; ++r) {
    std::copy_n(values.begin() + r * c.vocab, c.vocab, all.begin() + r * columns);
  }
  return all;
}

Outputs run(Machine& machine, const Problem& p, DType dtype, DType reference_dtype) {
  Buffers buffers(machine);
  const Case& c = p.c;
  DivergenceArgs args;
  args.vocab = c.vocab;
  args.logits = buffers.input({c.N, c.padded}, dtype, padded(p.logits, c, c.padded));
  args.reference = buffers.input({c.N, c.padded_reference}, reference_dtype,
                                 padded(p.reference, c, c.padded_reference));
  args.targets = buffers.ints(p.targets);
  args.losses = buffers.output({c.N}, DType::kF32);
  args.reference_losses = buffers.output({c.N}, DType::kF32);
  args.divergences = buffers.output({c.N}, DType::kF32);
  args.verdicts = buffers.output({c.N}, DType::kU8);
  ops::divergence(args, *machine.stream);
  buffers.check();
  return {{"losses", buffers.read(args.losses)},
          {"reference losses", buffers.read(args.reference_losses)},
          {"divergences", buffers.read(args.divergences)},
          {"verdicts", buffers.read(args.verdicts)}};
}

template <typename Function>
void for_each_case(const Function& function) {
  for (const DType dtype : kStorageTypes) {
    for (const DType other : {dtype, DType::kF32}) {
      for (const Case& c : kCases) {
        SCOPED_TRACE(fmt::format("N{} vocab {} spread {} apart {} {} {}", c.N, c.vocab, c.spread,
                                 c.apart, name_of(dtype), name_of(other)));
        function(problem(c, dtype, other), dtype, other);
      }
    }
  }
}

TEST(Divergence, MatchesFloat64) {
  Machine cpu = open_cpu();
  for_each_case([&](const Problem& p, DType dtype, DType other) {
    expect_close(run(cpu, p, dtype, other), reference(p));
  });
}

TEST(Divergence, OfAModelFromItselfIsZero) {
  Machine cpu = open_cpu();
  Problem p = problem(kCases[3], DType::kBF16, DType::kBF16);
  p.reference = p.logits;
  const Outputs outputs = run(cpu, p, DType::kBF16, DType::kBF16);
  for (const double divergence : outputs.at("divergences")) EXPECT_EQ(divergence, 0.0);
  EXPECT_EQ(outputs.at("losses"), outputs.at("reference losses"));
}

TEST(Divergence, IsTheSameAtAnyThreadCount) {
  for_each_case([](const Problem& p, DType dtype, DType other) {
    expect_thread_independent([&](Machine& machine) { return run(machine, p, dtype, other); });
  });
}

TEST(Divergence, CudaMatchesCpu) {
  LOCKSTEP_OPEN_CUDA(cuda);
  at_any_alignment(cuda, [&] {
    for_each_case([&](const Problem& p, DType dtype, DType other) {
      expect_close(run(cuda, p, dtype, other), reference(p));
    });
  });
}

}  // namespace
}  // namespace lockstep
