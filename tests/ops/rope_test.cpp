// The rotary embedding against float64, its inverse as gradient, strided rows, positions counted
// and given, and CUDA against the CPU.
#include "ops/rope.h"

#include "support/perf.h"
#include "support/support.h"

#include <cmath>

namespace lockstep {
namespace {

using namespace lockstep::test;

using Values = std::vector<double>;

struct Case {
  std::int64_t B, T, heads, D;
  std::int64_t offset;
  std::int64_t gap;  // elements after each row that must stay as they are: v in a packed qkv
  bool inverse;
  bool given = false;  // each row's position is an argument of its own, in no order

  std::int64_t positions() const { return offset + T + 1; }  // of the table
};

const Case kCases[] = {
    {1, 1, 1, 8, 0, 0, false},           {2, 3, 5, 24, 0, 0, true},
    {1, 17, 3, 16, 5, 16, false},        {2, 33, 4, 40, 0, 80, true},
    {1, 65, 2, 64, 0, 64, false},        {3, 7, 6, 128, 100, 256, true},
    {1, 130, 16, 64, 1, 0, false},       {2, 9, 3, 2, 0, 0, false},
    {1, 19, 4, 4, 3, 5, true},           {2, 21, 3, 6, 0, 1, false},
    {1, 11, 2, 12, 0, 12, true},         {1, 9, 2, 256, 2, 0, false},
    {1, 37, 4, 64, 90, 64, false, true}, {5, 1, 3, 16, 20, 0, true, true},
    {2, 13, 2, 6, 30, 3, false, true},
};

// (P, D): D/2 cosines, then D/2 sines.
Values table(std::int64_t positions, std::int64_t D) {
  Values values;
  for (std::int64_t p = 0; p < positions; ++p) {
    for (const bool sine : {false, true}) {
      for (std::int64_t i = 0; i < D / 2; ++i) {
        const double angle = static_cast<double>(p) * std::pow(10000.0, -2.0 * i / D);
        values.push_back(sine ? std::sin(angle) : std::cos(angle));
      }
    }
  }
  return rounded(values, DType::kF32);
}

struct Problem {
  Case c;
  Values x, table;
  std::vector<std::int32_t> positions;  // of the rows
};

Problem problem(const Case& c, DType dtype) {
  Problem p{c, rounded(random_values(c.B * c.T * c.heads * c.D, 1), dtype),
            table(c.positions(), c.D),
            random_ints(c.B * c.T, 9, static_cast<std::int32_t>(c.positions()))};
  for (std::int64_t row = 0; row < c.B * c.T && !c.given; ++row) {
    p.positions[static_cast<std::size_t>(row)] = static_cast<std::int32_t>(c.offset + row % c.T);
  }
  return p;
}

Values rotated(const Problem& p) {
  const Case& c = p.c;
  const auto half = static_cast<std::size_t>(c.D / 2);
  Values out(p.x.size());
  for (std::size_t head = 0; head < p.x.size(); head += 2 * half) {
    const std::size_t row = head / static_cast<std::size_t>(c.heads * c.D);
    const auto angle = static_cast<std::size_t>(p.positions[row] * c.D);
    for (std::size_t i = 0; i < half; ++i) {
      const double cosine = p.table[angle + i];
      const double sine = p.table[angle + half + i] * (c.inverse ? -1.0 : 1.0);
      out[head + i] = p.x[head + i] * cosine - p.x[head + half + i] * sine;
      out[head + half + i] = p.x[head + half + i] * cosine + p.x[head + i] * sine;
    }
  }
  return out;
}

Outputs run(Machine& machine, const Problem& p, DType dtype) {
  const Case& c = p.c;
  Buffers buffers(machine);
  const std::int64_t width = c.heads * c.D;
  RopeArgs args{.x = buffers.inout({c.B * c.T, width}, dtype, p.x, width + c.gap),
                .table = buffers.input({c.positions(), c.D}, DType::kF32, p.table),
                .head_dim = c.D,
                .inverse = c.inverse};
  if (c.given) {
    args.positions = buffers.ints(p.positions);
  } else {
    args.seq_len = c.T;
    args.position_offset = c.offset;
  }
  ops::rope(args, *machine.stream);
  buffers.check();
  return {{"x", buffers.read(args.x)}};
}

// Two products and a sum in fp32, then one rounding to storage.
Expectations reference(const Problem& p, DType dtype) {
  return {{"x", {rotated(p), 3.0 * 0x1p-24 + unit_roundoff(dtype)}}};
}

template <typename Function>
void for_each_case(const Function& function) {
  for (const DType dtype : kStorageTypes) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(fmt::format("B{} T{} heads {} D{} offset {} gap {} {} {} {}", c.B, c.T, c.heads,
                               c.D, c.offset, c.gap, c.inverse ? "inverse" : "forward",
                               c.given ? "given" : "counted", name_of(dtype)));
      function(problem(c, dtype), dtype);
    }
  }
}

TEST(Rope, MatchesFloat64) {
  Machine cpu = open_cpu();
  for_each_case([&](const Problem& p, DType dtype) {
    expect_close(run(cpu, p, dtype), reference(p, dtype));
  });
}

// The gradient of sum(rope(x) * w) is the inverse rotation of w.
TEST(Rope, InverseIsTheGradient) {
  Problem p = problem({2, 3, 2, 8, 1, 0, false}, DType::kF32);
  const Values weights =
      rounded(random_values(static_cast<std::int64_t>(p.x.size()), 2), DType::kF32);
  const VectorFunction f = [&](const Values& x) { return rotated({p.c, x, p.table, p.positions}); };
  const Values gradient = numeric_gradient(f, p.x, weights);
  p.c.inverse = true;
  p.x = weights;
  Machine cpu = open_cpu();
  EXPECT_LE(relative_error(run(cpu, p, DType::kF32).at("x"), gradient), 4.0 * 0x1p-24);
}

TEST(Rope, IsTheSameAtAnyThreadCount) {
  for_each_case([](const Problem& p, DType dtype) {
    expect_thread_independent([&](Machine& machine) { return run(machine, p, dtype); });
  });
}

// Both sides are within the tolerance of the exact result.
TEST(Rope, CudaMatchesCpu) {
  LOCKSTEP_OPEN_CUDA(cuda);
  Machine cpu = open_cpu();
  at_any_alignment(cuda, [&] {
    for_each_case([&](const Problem& p, DType dtype) {
      expect_close(run(cuda, p, dtype), like(run(cpu, p, dtype), reference(p, dtype), 2.0));
    });
  });
}

LOCKSTEP_PERF(Rope) {
  for (const DType dtype : kStorageTypes) {
    const RopeArgs args{.x = perf.values({8192, 2560}, dtype),  // q and k of a packed qkv
                        .table = perf.values({1024, 64}, DType::kF32),
                        .head_dim = 64,
                        .seq_len = 1024};
    perf.measure(fmt::format("rope 8192 x 2560 {}", name_of(dtype)),
                 {.bytes = 2.0 * static_cast<double>(args.x.bytes())},
                 [&] { ops::rope(args, perf.stream()); });
  }
}

}  // namespace
}  // namespace lockstep
