// gemm against a float64 product with every epilogue, its use as a backward pass against finite
// differences, thread counts, and the CUDA backend against the CPU on the same cases.
#include "ops/gemm.h"

#include "ops/scratch.h"
#include "support/perf.h"
#include "support/support.h"

#include <cmath>
#include <numbers>

namespace lockstep {
namespace {

using namespace lockstep::test;

enum class Mode { kPlain, kGelu, kResidual, kResidualInPlace, kAccumulate, kGradient, kFloatOut };

struct Case {
  std::int64_t M, N, K;
  bool transpose_a, transpose_b;
  Mode mode;
  std::int64_t gap = 0;  // elements between rows of a, b and out
};

// Tiles are at most 192 x 512, operand blocks 1024 deep: sizes below, at and just above, odd ones,
// and remainders 0, 1, 2 and width - 1.
const Case kCases[] = {
    {1, 1, 1, false, false, Mode::kPlain},
    {5, 3, 7, false, true, Mode::kPlain},
    {3, 5, 1, true, false, Mode::kGelu},
    {64, 128, 32, false, true, Mode::kGelu},
    {65, 129, 31, false, true, Mode::kGelu, 8},
    {66, 130, 64, false, false, Mode::kGradient},
    {127, 511, 33, false, false, Mode::kResidual, 16},
    {193, 513, 40, false, true, Mode::kResidualInPlace},
    {33, 65, 1025, true, false, Mode::kAccumulate},
    {96, 64, 130, true, false, Mode::kAccumulate, 8},
    {50, 70, 90, true, true, Mode::kPlain, 8},
    {17, 384, 128, false, true, Mode::kFloatOut},
    {2, 1000, 48, false, true, Mode::kFloatOut, 24},
    // Rows that begin anywhere: a packed row of three odd parts, and odd widths with every
    // epilogue.
    {31, 45, 15, false, true, Mode::kPlain, 30},
    {33, 15, 45, false, true, Mode::kResidual, 1},
    {35, 60, 15, false, true, Mode::kGelu, 3},
    {37, 15, 60, false, false, Mode::kGradient, 5},
    {45, 15, 38, true, false, Mode::kAccumulate, 7},
};

constexpr double kScale = 0.75;

double gelu(double x) {
  const double w = std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x);
  return 0.5 * x * (1.0 + std::tanh(w));
}

double gelu_slope(double x) {
  const double w = std::sqrt(2.0 / std::numbers::pi) * (x + 0.044715 * x * x * x);
  const double dw = std::sqrt(2.0 / std::numbers::pi) * (1.0 + 3.0 * 0.044715 * x * x);
  const double t = std::tanh(w);
  return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * dw;
}

// Host values of one case, already rounded to what the device holds.
struct Values {
  std::vector<double> a, b, bias, extra, bias_grad;
};

DType out_dtype(const Case& c, DType dtype) {
  return c.mode == Mode::kFloatOut ? DType::kF32 : dtype;
}

Values values_of(const Case& c, DType dtype) {
  Values v;
  v.a = rounded(random_values(c.M * c.K, 1), dtype);
  v.b = rounded(random_values(c.K * c.N, 2), dtype);
  v.bias = rounded(random_values(c.N, 3), dtype);
  v.extra = rounded(random_values(c.M * c.N, 4, 2.0), out_dtype(c, dtype));
  v.bias_grad = rounded(random_values(c.M, 5), DType::kF32);
  return v;
}

// op(a) op(b) in float64.
std::vector<double> product(const Values& v, const Case& c) {
  std::vector<double> out(static_cast<std::size_t>(c.M * c.N));
  const auto at = [](const std::vector<double>& x, std::int64_t i) {
    return x[static_cast<std::size_t>(i)];
  };
  for (std::int64_t m = 0; m < c.M; ++m) {
    for (std::int64_t n = 0; n < c.N; ++n) {
      double sum = 0.0;
      for (std::int64_t k = 0; k < c.K; ++k) {
        sum += at(v.a, c.transpose_a ? k * c.M + m : m * c.K + k) *
               at(v.b, c.transpose_b ? n * c.K + k : k * c.N + n);
      }
      out[static_cast<std::size_t>(m * c.N + n)] = sum;
    }
  }
  return out;
}

bool has_bias(Mode mode) { return mode != Mode::kAccumulate && mode != Mode::kGradient; }

// An fp32 sum of K products of random sign makes a relative error near 2^-24 sqrt(K) (rounding
// errors of partial sums of size sqrt(k) add like a random walk); the epilogue's few operations and
// the exponential make under 16 roundings more; storing rounds once.
double tolerance(const Case& c, DType dtype) {
  return 0x1p-24 * (16.0 + std::sqrt(static_cast<double>(c.K))) +
         unit_roundoff(out_dtype(c, dtype));
}

Expectations reference(const Case& c, DType dtype) {
  const Values v = values_of(c, dtype);
  std::vector<double> out = product(v, c);
  Expectations expected;
  std::vector<double> preactivation(out.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    double x = kScale * out[i];
    if (has_bias(c.mode)) x += v.bias[i % static_cast<std::size_t>(c.N)];
    preactivation[i] = x;
    if (c.mode == Mode::kGelu) x = gelu(x);
    if (c.mode == Mode::kGradient) x *= gelu_slope(v.extra[i]);
    if (c.mode == Mode::kResidual || c.mode == Mode::kResidualInPlace) x += v.extra[i];
    if (c.mode == Mode::kAccumulate) x = v.extra[i] + 2.0 * x;
    out[i] = x;
  }
  // Accumulating twice rounds the stored sum twice.
  const double roundings = c.mode == Mode::kAccumulate ? 2.0 : 1.0;
  expected["out"] = {out, roundings * tolerance(c, dtype)};
  if (c.mode == Mode::kGelu) expected["preactivation"] = {preactivation, tolerance(c, dtype)};
  if (c.mode == Mode::kAccumulate) {
    std::vector<double> sums = v.bias_grad;
    for (std::int64_t k = 0; k < c.K; ++k) {
      for (std::int64_t m = 0; m < c.M; ++m) {
        sums[static_cast<std::size_t>(m)] +=
            2.0 * v.a[static_cast<std::size_t>(c.transpose_a ? k * c.M + m : m * c.K + k)];
      }
    }
    // fp32 whatever the storage: the same random walk over K terms.
    expected["bias_grad"] = {sums, 0x1p-24 * (4.0 + std::sqrt(static_cast<double>(c.K)))};
  }
  return expected;
}

GemmArgs arguments(Buffers& buffers, const Case& c, DType dtype, const Values& v) {
  const auto stride = [&c](std::int64_t cols) { return cols + c.gap; };
  const DType out = out_dtype(c, dtype);
  GemmArgs args;
  args.transpose_a = c.transpose_a;
  args.transpose_b = c.transpose_b;
  args.scale = static_cast<float>(kScale);
  const Shape a = c.transpose_a ? Shape{c.K, c.M} : Shape{c.M, c.K};
  const Shape b = c.transpose_b ? Shape{c.N, c.K} : Shape{c.K, c.N};
  const Shape result{c.M, c.N};
  args.a = buffers.input(a, dtype, v.a, stride(a.cols()));
  args.b = buffers.input(b, dtype, v.b, stride(b.cols()));
  if (has_bias(c.mode)) args.bias = buffers.input({c.N}, dtype, v.bias);
  const bool reads_out = c.mode == Mode::kAccumulate || c.mode == Mode::kResidualInPlace;
  args.out = reads_out ? buffers.inout(result, out, v.extra, stride(c.N))
                       : buffers.output(result, out, stride(c.N));
  if (c.mode == Mode::kGelu) {
    args.activation = Activation::kGelu;
    args.preactivation_out = buffers.output(result, out, stride(c.N));
  }
  if (c.mode == Mode::kGradient) {
    args.activation_grad = Activation::kGelu;
    args.preactivation = buffers.input(result, out, v.extra, stride(c.N));
  }
  if (c.mode == Mode::kResidual) {
    args.residual = buffers.input(result, out, v.extra, stride(c.N));
  }
  if (c.mode == Mode::kResidualInPlace) args.residual = args.out;
  if (c.mode == Mode::kAccumulate) {
    args.accumulate = true;
    args.bias_grad = buffers.inout({c.M}, DType::kF32, v.bias_grad);
  }
  return args;
}

Outputs run(Machine& machine, const Case& c, DType dtype) {
  Buffers buffers(machine);
  GemmArgs args = arguments(buffers, c, dtype, values_of(c, dtype));
  const ScratchQuery query{
      .attention = {}, .rows = c.K, .channels = args.bias_grad ? c.M : 0, .dtype = dtype};
  args.scratch = buffers.scratch(ops::scratch_bytes(query, *machine.stream));
  const int times = c.mode == Mode::kAccumulate ? 2 : 1;
  for (int i = 0; i < times; ++i) ops::gemm(args, *machine.stream);
  Outputs outputs;
  outputs["out"] = buffers.read(args.out);
  if (args.preactivation_out) outputs["preactivation"] = buffers.read(args.preactivation_out);
  if (args.bias_grad) outputs["bias_grad"] = buffers.read(args.bias_grad);
  buffers.check();
  return outputs;
}

std::string name(const Case& c, DType dtype) {
  return fmt::format("{}x{}x{} a{} b{} mode {} gap {} {}", c.M, c.N, c.K, c.transpose_a ? "T" : "N",
                     c.transpose_b ? "T" : "N", static_cast<int>(c.mode), c.gap, name_of(dtype));
}

TEST(Gemm, MatchesFloat64) {
  Machine cpu = open_cpu();
  for (const DType dtype : kStorageTypes) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(name(c, dtype));
      expect_close(run(cpu, c, dtype), reference(c, dtype));
    }
  }
}

TEST(Gemm, IsTheSameAtAnyThreadCount) {
  for (const DType dtype : kStorageTypes) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(name(c, dtype));
      expect_thread_independent([&](Machine& machine) { return run(machine, c, dtype); });
    }
  }
}

// Both sides are within the tolerance of the exact result; CUDA may store an intermediate of an
// epilogue that cuBLASLt does not fuse, one rounding more: 3 in all.
TEST(Gemm, CudaMatchesCpu) {
  LOCKSTEP_OPEN_CUDA(cuda);
  Machine cpu = open_cpu();
  at_any_alignment(cuda, [&] {
    for (const DType dtype : kStorageTypes) {
      for (const Case& c : kCases) {
        SCOPED_TRACE(name(c, dtype));
        expect_close(run(cuda, c, dtype), like(run(cpu, c, dtype), reference(c, dtype), 3.0));
      }
    }
  });
}

// Operands rounded to TF32 (unit roundoff 2^-11, truncated: 2^-10), two a product.
TEST(Gemm, Tf32IsCloseToFloat64) {
  LOCKSTEP_OPEN_CUDA(cuda);
  ASSERT_TRUE(cuda.device->kernels().allow_tf32(cuda.device->context(), true));
  for (const Case& c : kCases) {
    SCOPED_TRACE(name(c, DType::kF32));
    Expectations expected = reference(c, DType::kF32);
    for (auto& [what, expectation] : expected) expectation.tolerance += 2.0 * 0x1p-10;
    expect_close(run(cuda, c, DType::kF32), expected);
  }
}

// Large enough for algorithms to differ by more than a launch: what a search chooses computes the
// same product, a gradient that it ran on many times accumulates once, and another device that
// adopts the choice gives the same bits.
TEST(Gemm, SearchChangesOnlyRoundings) {
  LOCKSTEP_OPEN_CUDA(plain);
  LOCKSTEP_OPEN_CUDA(searching);
  LOCKSTEP_OPEN_CUDA(adopting);
  const KernelTable& kernels = searching.device->kernels();
  const Case cases[] = {{1024, 1536, 1024, false, true, Mode::kGelu},
                        {1024, 1024, 1536, false, false, Mode::kGradient},
                        {1024, 1024, 1536, false, true, Mode::kResidualInPlace},
                        {1536, 1024, 1024, true, false, Mode::kAccumulate}};
  for (const Case& c : cases) {
    SCOPED_TRACE(name(c, DType::kBF16));
    const Outputs first = run(plain, c, DType::kBF16);
    ASSERT_TRUE(kernels.search_gemms(searching.device->context(), true));
    const Outputs found = run(searching, c, DType::kBF16);
    Expectations expected;
    for (const auto& [what, values] : first) expected[what] = {values, 0x1p-7};
    expect_close(found, expected);
    const std::string plan = kernels.gemm_plan(searching.device->context());
    ASSERT_TRUE(kernels.adopt_gemm_plan(adopting.device->context(), plan));
    expect_identical(run(adopting, c, DType::kBF16), found);
    const std::string in_use = kernels.gemm_plan(adopting.device->context());
    const std::string choice = in_use.substr(in_use.rfind(' '));
    EXPECT_NE(plan.find(choice), std::string::npos) << choice << " in " << plan;
  }
}

// A two-layer network y = gelu(x W1^T + b1) W2^T in float64, as a function of all its inputs.
struct Network {
  static constexpr std::int64_t kRows = 6, kIn = 5, kHidden = 7, kOut = 3;
  std::vector<double> x = rounded(random_values(kRows * kIn, 11), DType::kF32);
  std::vector<double> w1 = rounded(random_values(kHidden * kIn, 12), DType::kF32);
  std::vector<double> b1 = rounded(random_values(kHidden, 13), DType::kF32);
  std::vector<double> w2 = rounded(random_values(kOut * kHidden, 14), DType::kF32);
  std::vector<double> dy = rounded(random_values(kRows * kOut, 15), DType::kF32);

  std::vector<double> forward() const {
    std::vector<double> y(kRows * kOut);
    for (std::size_t r = 0; r < kRows; ++r) {
      for (std::size_t h = 0; h < kHidden; ++h) {
        double sum = b1[h];
        for (std::size_t i = 0; i < kIn; ++i) sum += x[r * kIn + i] * w1[h * kIn + i];
        for (std::size_t o = 0; o < kOut; ++o) {
          y[r * kOut + o] += gelu(sum) * w2[o * kHidden + h];
        }
      }
    }
    return y;
  }
  // The numeric gradient with respect to one of the members.
  std::vector<double> gradient(std::vector<double> Network::*member) const {
    const VectorFunction f = [&](const std::vector<double>& values) {
      Network moved = *this;
      moved.*member = values;
      return moved.forward();
    };
    return numeric_gradient(f, this->*member, dy);
  }
};

// The same network's gradients through gemm: activation gradient, bias gradient, accumulation.
Outputs network_gradients(Machine& machine, const Network& net) {
  using N = Network;
  Buffers buffers(machine);
  const auto input = [&](std::int64_t rows, std::int64_t cols, const std::vector<double>& values) {
    return buffers.input({rows, cols}, DType::kF32, values);
  };
  const auto zeros = [&](std::int64_t rows, std::int64_t cols) {
    return buffers.inout({rows, cols}, DType::kF32,
                         std::vector<double>(static_cast<std::size_t>(rows * cols)));
  };
  const ScratchQuery query{
      .attention = {}, .rows = N::kRows, .channels = N::kHidden, .dtype = DType::kF32};
  const Tensor scratch = buffers.scratch(ops::scratch_bytes(query, *machine.stream));
  const auto product = [&](const Tensor& out, const Tensor& a, const Tensor& b) {
    GemmArgs args;
    args.out = out;
    args.a = a;
    args.b = b;
    args.scratch = scratch;
    return args;
  };
  const Tensor x = input(N::kRows, N::kIn, net.x);
  const Tensor w1 = input(N::kHidden, N::kIn, net.w1);
  const Tensor w2 = input(N::kOut, N::kHidden, net.w2);
  const Tensor dy = input(N::kRows, N::kOut, net.dy);
  const Tensor pre = zeros(N::kRows, N::kHidden);
  const Tensor dw1 = zeros(N::kHidden, N::kIn);
  const Tensor dw2 = zeros(N::kOut, N::kHidden);
  const Tensor db1 = zeros(1, N::kHidden);

  GemmArgs hidden = product(zeros(N::kRows, N::kHidden), x, w1);
  hidden.transpose_b = true;
  hidden.bias = input(1, N::kHidden, net.b1);
  hidden.activation = Activation::kGelu;
  hidden.preactivation_out = pre;
  GemmArgs dhidden = product(zeros(N::kRows, N::kHidden), dy, w2);
  dhidden.activation_grad = Activation::kGelu;
  dhidden.preactivation = pre;
  GemmArgs dx = product(zeros(N::kRows, N::kIn), dhidden.out, w1);
  GemmArgs weight2 = product(dw2, dy, hidden.out);
  weight2.transpose_a = weight2.accumulate = true;
  GemmArgs weight1 = product(dw1, dhidden.out, x);
  weight1.transpose_a = weight1.accumulate = true;
  weight1.bias_grad = db1;
  for (const GemmArgs& args : {hidden, dhidden, dx, weight2, weight1}) {
    ops::gemm(args, *machine.stream);
  }
  buffers.check();
  return {{"dx", buffers.read(dx.out)},
          {"dw1", buffers.read(dw1)},
          {"dw2", buffers.read(dw2)},
          {"db1", buffers.read(db1)}};
}

// fp32 arithmetic over two layers: under 32 roundings of 2^-24, far above the differences' 1e-10.
TEST(Gemm, GradientsMatchFiniteDifferences) {
  const Network net;
  const double bound = 32.0 * 0x1p-24;
  const Expectations expected = {{"dx", {net.gradient(&Network::x), bound}},
                                 {"dw1", {net.gradient(&Network::w1), bound}},
                                 {"dw2", {net.gradient(&Network::w2), bound}},
                                 {"db1", {net.gradient(&Network::b1), bound}}};
  Machine cpu = open_cpu();
  expect_close(network_gradients(cpu, net), expected);
}

// The products of a GPT-2 124M layer over 8 sequences of 1024, and one that decodes.
LOCKSTEP_PERF(Gemm) {
  struct Shape3 {
    std::int64_t M, N, K;
    Activation activation;
  };
  constexpr auto kNone = Activation::kNone;
  for (const DType dtype : kStorageTypes) {
    for (const Shape3& s : {Shape3{8192, 2304, 768, kNone}, Shape3{8192, 3072, 768, kNone},
                            Shape3{8192, 3072, 768, Activation::kGelu},
                            Shape3{8192, 768, 3072, kNone}, Shape3{16, 768, 768, kNone}}) {
      GemmArgs args;
      args.out = perf.values({s.M, s.N}, dtype);
      args.a = perf.values({s.M, s.K}, dtype);
      args.b = perf.values({s.N, s.K}, dtype);
      args.transpose_b = true;
      args.bias = perf.values({s.N}, dtype);
      args.activation = s.activation;
      if (s.activation != kNone) args.preactivation_out = perf.values({s.M, s.N}, dtype);
      perf.measure(fmt::format("gemm {} x {} x {} {}{}", s.M, s.N, s.K, name_of(dtype),
                               s.activation == kNone ? "" : " gelu"),
                   {.flops = 2.0 * static_cast<double>(s.M * s.N * s.K)},
                   [&] { ops::gemm(args, perf.stream()); });
    }
  }
}

}  // namespace
}  // namespace lockstep
