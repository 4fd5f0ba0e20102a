// SwiGLU against float64, its gradient against finite differences, and CUDA against the CPU.
#include "ops/swiglu.h"

#include "support/perf.h"
#include "support/support.h"

#include <cmath>

namespace lockstep {
namespace {

using namespace lockstep::test;

using Values = std::vector<double>;

struct Case {
  std::int64_t N, F;
  bool in_place;
};

const Case kCases[] = {{1, 1, false},  {3, 7, true},    {17, 8, false}, {5, 33, true},
                       {64, 64, true}, {9, 130, false}, {2, 1027, true}};

struct Problem {
  Case c;
  Values gate_up, dout;

  std::size_t width() const { return static_cast<std::size_t>(c.F); }
};

// Gates reach +-24, where the sigmoid is 0 or 1 to the last bit.
Problem problem(const Case& c, DType dtype) {
  Problem p{c, random_values(c.N * 2 * c.F, 1, 4.0), rounded(random_values(c.N * c.F, 2), dtype)};
  for (std::size_t i = 0; i < p.gate_up.size(); i += 5) p.gate_up[i] *= 6.0;
  p.gate_up = rounded(p.gate_up, dtype);
  return p;
}

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

Values forward(const Problem& p) {
  const std::size_t F = p.width();
  Values out(p.gate_up.size() / 2);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double gate = p.gate_up[i / F * 2 * F + i % F];
    out[i] = gate * sigmoid(gate) * p.gate_up[i / F * 2 * F + F + i % F];
  }
  return out;
}

Values backward(const Problem& p) {
  const std::size_t F = p.width();
  Values dgate_up(p.gate_up.size());
  for (std::size_t i = 0; i < p.dout.size(); ++i) {
    const std::size_t at = i / F * 2 * F + i % F;
    const double gate = p.gate_up[at];
    const double s = sigmoid(gate);
    dgate_up[at] = p.dout[i] * p.gate_up[at + F] * s * (1.0 + gate * (1.0 - s));
    dgate_up[at + F] = p.dout[i] * gate * s;
  }
  return dgate_up;
}

Outputs run(Machine& machine, const Problem& p, DType dtype) {
  const Case& c = p.c;
  Buffers buffers(machine);
  const Shape wide{c.N, 2 * c.F};
  const SwigluForward forward_args{.out = buffers.output({c.N, c.F}, dtype),
                                   .gate_up = buffers.input(wide, dtype, p.gate_up)};
  ops::swiglu_forward(forward_args, *machine.stream);
  SwigluBackward args{.dgate_up = buffers.output(wide, dtype),
                      .dout = buffers.input({c.N, c.F}, dtype, p.dout),
                      .gate_up = forward_args.gate_up};
  if (c.in_place) args.gate_up = args.dgate_up = buffers.inout(wide, dtype, p.gate_up);
  ops::swiglu_backward(args, *machine.stream);
  buffers.check();
  return {{"out", buffers.read(forward_args.out)}, {"dgate_up", buffers.read(args.dgate_up)}};
}

// The exponential's 3 roundings and under 8 others; 1 - s is exact to 2^-24 absolutely, which
// gate (up to 24) magnifies only where s itself is 1; then one rounding to storage.
Expectations reference(const Problem& p, DType dtype) {
  const double tolerance = 16.0 * 0x1p-24 + unit_roundoff(dtype);
  return {{"out", {forward(p), tolerance}}, {"dgate_up", {backward(p), tolerance}}};
}

template <typename Function>
void for_each_case(const Function& function) {
  for (const DType dtype : kStorageTypes) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(fmt::format("{}x{} in place {} {}", c.N, c.F, c.in_place, name_of(dtype)));
      function(problem(c, dtype), dtype);
    }
  }
}

TEST(Swiglu, MatchesFloat64) {
  Machine cpu = open_cpu();
  for_each_case([&](const Problem& p, DType dtype) {
    expect_close(run(cpu, p, dtype), reference(p, dtype));
  });
}

TEST(Swiglu, Float64GradientMatchesFiniteDifferences) {
  const Problem p = problem({4, 5, false}, DType::kF64);
  const VectorFunction f = [&](const Values& values) { return forward({p.c, values, p.dout}); };
  // Central differences with step 1e-5: error near 1e-10 of values near 1.
  EXPECT_LE(relative_error(backward(p), numeric_gradient(f, p.gate_up, p.dout)), 1e-8);
}

TEST(Swiglu, IsTheSameAtAnyThreadCount) {
  for_each_case([](const Problem& p, DType dtype) {
    expect_thread_independent([&](Machine& machine) { return run(machine, p, dtype); });
  });
}

// Both sides are within the tolerance of the exact result.
TEST(Swiglu, CudaMatchesCpu) {
  LOCKSTEP_OPEN_CUDA(cuda);
  Machine cpu = open_cpu();
  at_any_alignment(cuda, [&] {
    for_each_case([&](const Problem& p, DType dtype) {
      expect_close(run(cuda, p, dtype), like(run(cpu, p, dtype), reference(p, dtype), 2.0));
    });
  });
}

LOCKSTEP_PERF(Swiglu) {
  for (const DType dtype : kStorageTypes) {
    const Tensor out = perf.values({8192, 5632}, dtype);
    const Tensor gate_up = perf.values({8192, 2 * 5632}, dtype);
    const auto bytes = static_cast<double>(out.bytes());
    perf.measure(fmt::format("swiglu_forward 8192 x 5632 {}", name_of(dtype)),
                 {.bytes = 3.0 * bytes},
                 [&] { ops::swiglu_forward({.out = out, .gate_up = gate_up}, perf.stream()); });
    const SwigluBackward backward{.dgate_up = gate_up, .dout = out, .gate_up = gate_up};
    perf.measure(fmt::format("swiglu_backward 8192 x 5632 {}", name_of(dtype)),
                 {.bytes = 5.0 * bytes}, [&] { ops::swiglu_backward(backward, perf.stream()); });
  }
}

}  // namespace
}  // namespace lockstep
