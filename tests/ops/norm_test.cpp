// LayerNorm and RMSNorm against float64 formulas, the gradient against finite differences, thread
// counts, and the CUDA backend against the CPU on the same cases.
#include "ops/norm.h"

#include "ops/scratch.h"
#include "support/perf.h"
#include "support/support.h"

#include <cmath>

namespace lockstep {
namespace {

using namespace lockstep::test;

using Values = std::vector<double>;

enum class NormKind { kLayerNorm, kRmsNorm };
enum class Residual { kNone, kSeparate, kInPlace };

struct Case {
  std::int64_t N, C;
  NormKind kind;
  bool bias;
  Residual residual;
};

// Row blocks are at least 16 rows, at most 64 blocks; C with every kind of remainder.
const Case kCases[] = {
    {1, 1, NormKind::kLayerNorm, true, Residual::kNone},
    {5, 3, NormKind::kLayerNorm, true, Residual::kSeparate},
    {16, 8, NormKind::kRmsNorm, false, Residual::kInPlace},
    {17, 31, NormKind::kLayerNorm, false, Residual::kInPlace},
    {33, 64, NormKind::kRmsNorm, false, Residual::kNone},
    {65, 129, NormKind::kLayerNorm, true, Residual::kInPlace},
    {7, 768, NormKind::kLayerNorm, true, Residual::kSeparate},
    {3, 1026, NormKind::kRmsNorm, false, Residual::kSeparate},
    {2, 4099, NormKind::kLayerNorm, true, Residual::kNone},
    {1100, 20, NormKind::kLayerNorm, true, Residual::kInPlace},
    {1025, 18, NormKind::kRmsNorm, false, Residual::kInPlace},
};

constexpr double kEps = 1e-5;

// Host values; mean and rstd are what forward saves.
struct Problem {
  Case c;
  Values x, weight, bias, dy, residual, dweight, dbias, mean, rstd;

  std::size_t rows() const { return static_cast<std::size_t>(c.N); }
  std::size_t cols() const { return static_cast<std::size_t>(c.C); }
};

void save_statistics(Problem& p) {
  p.mean.assign(p.rows(), 0.0);
  p.rstd.assign(p.rows(), 0.0);
  for (std::size_t r = 0; r < p.rows(); ++r) {
    const double* x = &p.x[r * p.cols()];
    for (std::size_t i = 0; i < p.cols(); ++i) p.mean[r] += x[i];
    p.mean[r] = p.c.kind == NormKind::kLayerNorm ? p.mean[r] / p.c.C : 0.0;
    double variance = 0.0;
    for (std::size_t i = 0; i < p.cols(); ++i) {
      variance += (x[i] - p.mean[r]) * (x[i] - p.mean[r]);
    }
    p.rstd[r] = 1.0 / std::sqrt(variance / p.c.C + kEps);
  }
}

Problem problem(const Case& c, DType dtype) {
  Problem p;
  p.c = c;
  p.x = random_values(c.N * c.C, 1, 2.0);
  for (double& x : p.x) x += 0.5;
  p.x = rounded(p.x, dtype);
  p.weight = rounded(random_values(c.C, 2), dtype);
  p.bias = rounded(random_values(c.C, 3), dtype);
  if (!c.bias) p.bias.assign(p.cols(), 0.0);
  p.dy = rounded(random_values(c.N * c.C, 4), dtype);
  p.residual = rounded(random_values(c.N * c.C, 5), dtype);
  if (c.residual == Residual::kNone) p.residual.assign(p.x.size(), 0.0);
  p.dweight = rounded(random_values(c.C, 6), DType::kF32);
  p.dbias = rounded(random_values(c.C, 7), DType::kF32);
  save_statistics(p);
  return p;
}

Values normalized(const Problem& p) {
  Values out(p.x.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::size_t r = i / p.cols();
    out[i] = (p.x[i] - p.mean[r]) * p.rstd[r];
  }
  return out;
}

Values forward(const Problem& p) {
  Values out = normalized(p);
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = out[i] * p.weight[i % p.cols()] + p.bias[i % p.cols()];
  }
  return out;
}

// Gradients of one application, without what they are added to.
struct Gradients {
  Values dx, dweight, dbias;
};

Gradients backward(const Problem& p) {
  const Values xhat = normalized(p);
  Gradients g{Values(p.x.size()), Values(p.cols()), Values(p.cols())};
  for (std::size_t r = 0; r < p.rows(); ++r) {
    double mean_g = 0.0;
    double mean_dot = 0.0;
    for (std::size_t c = 0; c < p.cols(); ++c) {
      const std::size_t i = r * p.cols() + c;
      g.dweight[c] += p.dy[i] * xhat[i];
      g.dbias[c] += p.dy[i];
      mean_g += p.dy[i] * p.weight[c] / p.c.C;
      mean_dot += p.dy[i] * p.weight[c] * xhat[i] / p.c.C;
    }
    if (p.c.kind == NormKind::kRmsNorm) mean_g = 0.0;
    for (std::size_t c = 0; c < p.cols(); ++c) {
      const std::size_t i = r * p.cols() + c;
      g.dx[i] = p.rstd[r] * (p.dy[i] * p.weight[c] - mean_g - xhat[i] * mean_dot);
    }
  }
  return g;
}

Outputs run_forward(Machine& machine, const Problem& p, DType dtype) {
  Buffers buffers(machine);
  const Shape shape{p.c.N, p.c.C};
  NormForward args;
  args.eps = static_cast<float>(kEps);
  args.x = buffers.input(shape, dtype, p.x);
  args.weight = buffers.input({p.c.C}, dtype, p.weight);
  if (p.c.bias) args.bias = buffers.input({p.c.C}, dtype, p.bias);
  args.out = buffers.output(shape, dtype);
  args.rstd = buffers.output({p.c.N}, DType::kF32);
  if (p.c.kind == NormKind::kLayerNorm) args.mean = buffers.output({p.c.N}, DType::kF32);
  ops::norm_forward(args, *machine.stream);
  Outputs outputs{{"out", buffers.read(args.out)}, {"rstd", buffers.read(args.rstd)}};
  if (args.mean) outputs["mean"] = buffers.read(args.mean);
  buffers.check();
  return outputs;
}

// Twice: dweight and dbias accumulate, dx does not (in place, the second pass adds to the first).
Outputs run_backward(Machine& machine, const Problem& p, DType dtype) {
  Buffers buffers(machine);
  const Shape shape{p.c.N, p.c.C};
  NormBackward args;
  args.dy = buffers.input(shape, dtype, p.dy);
  args.x = buffers.input(shape, dtype, p.x);
  args.weight = buffers.input({p.c.C}, dtype, p.weight);
  args.rstd = buffers.input({p.c.N}, DType::kF32, p.rstd);
  if (p.c.kind == NormKind::kLayerNorm) args.mean = buffers.input({p.c.N}, DType::kF32, p.mean);
  args.dweight = buffers.inout({p.c.C}, DType::kF32, p.dweight);
  if (p.c.bias) args.dbias = buffers.inout({p.c.C}, DType::kF32, p.dbias);
  const bool in_place = p.c.residual == Residual::kInPlace;
  args.dx = in_place ? buffers.inout(shape, dtype, p.residual) : buffers.output(shape, dtype);
  if (in_place) args.residual_grad = args.dx;
  if (p.c.residual == Residual::kSeparate) {
    args.residual_grad = buffers.input(shape, dtype, p.residual);
  }
  ScratchQuery query;
  query.rows = p.c.N;
  query.channels = p.c.C;
  query.dtype = dtype;
  args.scratch = buffers.scratch(ops::scratch_bytes(query, *machine.stream));
  ops::norm_backward(args, *machine.stream);
  Outputs outputs{{"dx", buffers.read(args.dx)}};
  ops::norm_backward(args, *machine.stream);
  outputs["dweight"] = buffers.read(args.dweight);
  if (p.c.bias) outputs["dbias"] = buffers.read(args.dbias);
  buffers.check();
  return outputs;
}

// Sums of C terms of random sign: relative error 2^-24 sqrt(C) as a random walk, and fewer than 16
// roundings around them (x - mean cancels at most a bit or two here).
double fp32_error(std::int64_t terms) {
  return 0x1p-24 * (16.0 + std::sqrt(static_cast<double>(terms)));
}

Expectations expected_forward(const Problem& p, DType dtype) {
  const double error = fp32_error(p.c.C);
  Expectations expected{{"out", {forward(p), error + unit_roundoff(dtype)}},
                        {"rstd", {p.rstd, error}}};
  if (p.c.kind == NormKind::kLayerNorm) expected["mean"] = {p.mean, error};
  return expected;
}

Expectations expected_backward(const Problem& p, DType dtype) {
  const Gradients g = backward(p);
  Values dx = g.dx;
  Values dweight = p.dweight;
  Values dbias = p.dbias;
  for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += p.residual[i];
  for (std::size_t i = 0; i < dweight.size(); ++i) {
    dweight[i] += 2.0 * g.dweight[i];
    dbias[i] += 2.0 * g.dbias[i];
  }
  Expectations expected{{"dx", {dx, fp32_error(p.c.C) + unit_roundoff(dtype)}},
                        {"dweight", {dweight, fp32_error(p.c.N)}}};
  if (p.c.bias) expected["dbias"] = {dbias, fp32_error(p.c.N)};
  return expected;
}

template <typename Function>
void for_each_case(const Function& function) {
  for (const DType dtype : kStorageTypes) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(fmt::format("{}x{} {} bias {} residual {} {}", c.N, c.C,
                               c.kind == NormKind::kLayerNorm ? "layer" : "rms", c.bias,
                               static_cast<int>(c.residual), name_of(dtype)));
      function(problem(c, dtype), dtype);
    }
  }
}

TEST(Norm, MatchesFloat64) {
  Machine cpu = open_cpu();
  for_each_case([&](const Problem& p, DType dtype) {
    expect_close(run_forward(cpu, p, dtype), expected_forward(p, dtype));
    expect_close(run_backward(cpu, p, dtype), expected_backward(p, dtype));
  });
}

TEST(Norm, Float64GradientMatchesFiniteDifferences) {
  for (const NormKind kind : {NormKind::kLayerNorm, NormKind::kRmsNorm}) {
    const Problem p = problem({4, 7, kind, true, Residual::kNone}, DType::kF64);
    const Gradients g = backward(p);
    const auto numeric = [&](Values Problem::*member) {
      const VectorFunction f = [&](const Values& values) {
        Problem moved = p;
        moved.*member = values;
        save_statistics(moved);
        return forward(moved);
      };
      return numeric_gradient(f, p.*member, p.dy);
    };
    // Central differences with step 1e-5: error near 1e-10 of values near 1.
    EXPECT_LE(relative_error(g.dx, numeric(&Problem::x)), 1e-8);
    EXPECT_LE(relative_error(g.dweight, numeric(&Problem::weight)), 1e-8);
    EXPECT_LE(relative_error(g.dbias, numeric(&Problem::bias)), 1e-8);
  }
}

TEST(Norm, IsTheSameAtAnyThreadCount) {
  for_each_case([](const Problem& p, DType dtype) {
    expect_thread_independent([&](Machine& machine) { return run_forward(machine, p, dtype); });
    expect_thread_independent([&](Machine& machine) { return run_backward(machine, p, dtype); });
  });
}

// Both sides are within the tolerance of the exact result: twice the tolerance between them.
TEST(Norm, CudaMatchesCpu) {
  LOCKSTEP_OPEN_CUDA(cuda);
  Machine cpu = open_cpu();
  at_any_alignment(cuda, [&] {
    for_each_case([&](const Problem& p, DType dtype) {
      expect_close(run_forward(cuda, p, dtype),
                   like(run_forward(cpu, p, dtype), expected_forward(p, dtype), 2.0));
      expect_close(run_backward(cuda, p, dtype),
                   like(run_backward(cpu, p, dtype), expected_backward(p, dtype), 2.0));
    });
  });
}

LOCKSTEP_PERF(Norm) {
  for (const DType dtype : kStorageTypes) {
    for (const std::int64_t C : {768, 4096}) {
      const std::int64_t N = 8192;
      const Tensor x = perf.values({N, C}, dtype);
      const Tensor weight = perf.values({C}, dtype);
      const Tensor mean = perf.values({N}, DType::kF32);
      const Tensor rstd = perf.values({N}, DType::kF32);
      const NormForward forward{.out = perf.values({N, C}, dtype),
                                .mean = mean,
                                .rstd = rstd,
                                .x = x,
                                .weight = weight,
                                .bias = weight};
      const auto bytes = static_cast<double>(x.bytes());
      perf.measure(fmt::format("norm_forward {} x {} {}", N, C, name_of(dtype)),
                   {.bytes = 2.0 * bytes}, [&] { ops::norm_forward(forward, perf.stream()); });
      const ScratchQuery query{.attention = {}, .rows = N, .channels = C, .dtype = dtype};
      const NormBackward backward{.dx = perf.values({N, C}, dtype),
                                  .dweight = perf.values({C}, DType::kF32),
                                  .dbias = perf.values({C}, DType::kF32),
                                  .dy = perf.values({N, C}, dtype),
                                  .x = x,
                                  .mean = mean,
                                  .rstd = rstd,
                                  .weight = weight,
                                  .residual_grad = perf.values({N, C}, dtype),
                                  .scratch = perf.bytes(ops::scratch_bytes(query, perf.stream()))};
      perf.measure(fmt::format("norm_backward {} x {} {}", N, C, name_of(dtype)),
                   {.bytes = 4.0 * bytes}, [&] { ops::norm_backward(backward, perf.stream()); });
    }
  }
}

}  // namespace
}  // namespace lockstep
