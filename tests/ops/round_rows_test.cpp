// Rows rounded to int8 steps, against float64, with strides and in place, and CUDA against the CPU.
#include "ops/round_rows.h"

#include "support/perf.h"
#include "support/support.h"

#include <algorithm>
#include <cmath>

namespace lockstep {
namespace {

using namespace lockstep::test;

using Values = std::vector<double>;

struct Case {
  std::int64_t N, C;
  std::int64_t out_stride, x_stride;  // 0: contiguous
  bool in_place;
};

const Case kCases[] = {{1, 1, 0, 0, false},       {3, 7, 9, 8, false},   {17, 8, 0, 24, true},
                       {5, 33, 40, 0, false},     {64, 64, 0, 0, true},  {2, 1027, 0, 1040, false},
                       {9, 128, 136, 144, false}, {3, 4096, 0, 0, false}};

// Rows of very different sizes; row 1, where there is one, is zero, and row 2 almost.
Values inputs(const Case& c, DType dtype) {
  Values x = random_values(c.N * c.C, 1);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i) / c.C;
    const bool zero = row == 1 || (row == 2 && static_cast<std::int64_t>(i) % c.C != 0);
    x[i] = zero ? 0.0 : std::ldexp(x[i], static_cast<int>(row % 7) - 3);
  }
  return rounded(x, dtype);
}

// The steps: scale and quotient rounded to fp32, as every implementation does, so that the integers
// are the same and not only near.
Values reference(const Case& c, const Values& x, DType dtype) {
  Values out(x.size());
  const auto C = static_cast<std::size_t>(c.C);
  for (std::size_t begin = 0; begin < x.size(); begin += C) {
    double largest = 0.0;
    for (std::size_t i = begin; i < begin + C; ++i) largest = std::max(largest, std::fabs(x[i]));
    const auto scale = static_cast<double>(static_cast<float>(largest / 127.5));
    for (std::size_t i = begin; i < begin + C && scale > 0.0; ++i) {
      const auto quotient = static_cast<double>(static_cast<float>(x[i] / scale));
      out[i] = std::clamp(std::nearbyint(quotient), -128.0, 127.0) * scale;
    }
  }
  return rounded(rounded(out, DType::kF32), dtype);
}

Values run(Machine& machine, const Case& c, const Values& x, DType dtype) {
  Buffers buffers(machine);
  RoundRows args{.x = buffers.input({c.N, c.C}, dtype, x, c.x_stride)};
  if (c.in_place) {
    args.x = args.out = buffers.inout({c.N, c.C}, dtype, x, c.x_stride);
  } else {
    args.out = buffers.output({c.N, c.C}, dtype, c.out_stride);
  }
  ops::round_rows(args, *machine.stream);
  buffers.check();
  return buffers.read(args.out);
}

// Every operation has one correctly rounded result, so the comparison is exact.
void expect_exact(Machine& machine) {
  for (const DType dtype : kStorageTypes) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(fmt::format("{}x{} in place {} {}", c.N, c.C, c.in_place, name_of(dtype)));
      const Values x = inputs(c, dtype);
      EXPECT_EQ(run(machine, c, x, dtype), reference(c, x, dtype));
    }
  }
}

TEST(RoundRows, IsExact) {
  Machine cpu = open_cpu();
  expect_exact(cpu);
}

TEST(RoundRows, IsExactOnCuda) {
  LOCKSTEP_OPEN_CUDA(cuda);
  at_any_alignment(cuda, [&] { expect_exact(cuda); });
}

TEST(RoundRows, IsTheSameAtAnyThreadCount) {
  const Case& c = kCases[4];
  const Values x = inputs(c, DType::kBF16);
  expect_thread_independent([&](Machine& machine) {
    return Outputs{{"out", run(machine, c, x, DType::kBF16)}};
  });
}

// The ends of the range: the largest value is 127.5 steps, which rounds to 127 above and, ties to
// even, to -128 below.
void expect_ends(Machine& machine) {
  const Case c{1, 4, 0, 0, false};
  const Values x = {127.5, -127.5, 2.5, -1.5};
  EXPECT_EQ(run(machine, c, x, DType::kF32), (Values{127.0, -128.0, 2.0, -2.0}));
}

// NaN is not rounded away, and does not spoil its neighbours.
void expect_nan_kept(Machine& machine) {
  const Case c{1, 3, 0, 0, false};
  const Values out = run(machine, c, {std::nan(""), 255.0, -10.0}, DType::kF32);
  EXPECT_TRUE(std::isnan(out[0]));
  EXPECT_EQ(out[1], 254.0);
  EXPECT_EQ(out[2], -10.0);
}

TEST(RoundRows, EndsAndNan) {
  Machine cpu = open_cpu();
  expect_ends(cpu);
  expect_nan_kept(cpu);
}

TEST(RoundRows, EndsAndNanOnCuda) {
  LOCKSTEP_OPEN_CUDA(cuda);
  at_any_alignment(cuda, [&] {
    expect_ends(cuda);
    expect_nan_kept(cuda);
  });
}

TEST(RoundRows, RefusesOtherShapes) {
  Machine cpu = open_cpu();
  Buffers buffers(cpu);
  const RoundRows args{.out = buffers.output({2, 3}, DType::kF32),
                       .x = buffers.output({2, 4}, DType::kF32)};
  EXPECT_THROW(ops::round_rows(args, *cpu.stream), CheckError);
}

LOCKSTEP_PERF(RoundRows) {
  for (const DType dtype : kStorageTypes) {
    const Tensor x = perf.values({8192, 4096}, dtype);
    perf.measure(fmt::format("round_rows 8192 x 4096 {}", name_of(dtype)),
                 {.bytes = 2.0 * static_cast<double>(x.bytes())},
                 [&] { ops::round_rows({.out = x, .x = x}, perf.stream()); });
  }
}

}  // namespace
}  // namespace lockstep
