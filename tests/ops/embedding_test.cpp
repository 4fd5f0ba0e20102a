// The embedding and its gradient against float64, thread counts, and CUDA against the CPU.
// Tokens repeat, so that the gradient's sums have something to add.
#include "ops/embedding.h"

#include "ops/scratch.h"
#include "support/perf.h"
#include "support/support.h"

#include <cmath>

namespace lockstep {
namespace {

using namespace lockstep::test;

using Values = std::vector<double>;

struct Case {
  std::int64_t B, T, V, C;
  std::int64_t offset;     // of forward's positions
  std::int64_t positions;  // rows of the table; 0: no learned positions
  bool given = false;      // each row's position is an argument of its own, in no order
};

const Case kCases[] = {
    {1, 1, 1, 1, 0, 0},          {2, 5, 3, 7, 0, 5},
    {3, 17, 50, 33, 4, 30},      {1, 130, 11, 64, 0, 130},
    {2, 64, 256, 128, 0, 64},    {4, 33, 1000, 65, 7, 40},
    {5, 9, 4, 770, 0, 0},        {1, 37, 300, 64, 0, 90, true},
    {6, 1, 20, 35, 0, 17, true},
};

struct Problem {
  Case c;
  std::vector<std::int32_t> tokens;
  std::vector<std::int32_t> rows;  // the position of each
  Values table, positions, dout, dtable, dpositions;
};

Problem problem(const Case& c, DType dtype) {
  Problem p;
  p.c = c;
  p.tokens = random_ints(c.B * c.T, 1, static_cast<std::int32_t>(c.V));
  p.rows = random_ints(c.B * c.T, 7, static_cast<std::int32_t>(c.positions));
  for (std::size_t row = 0; row < p.rows.size() && !c.given; ++row) {
    p.rows[row] = static_cast<std::int32_t>(c.offset + static_cast<std::int64_t>(row) % c.T);
  }
  p.table = rounded(random_values(c.V * c.C, 2), dtype);
  p.positions = rounded(random_values(c.positions * c.C, 3), dtype);
  p.dout = rounded(random_values(c.B * c.T * c.C, 4), dtype);
  p.dtable = rounded(random_values(c.V * c.C, 5), DType::kF32);
  p.dpositions = rounded(random_values(c.positions * c.C, 6), DType::kF32);
  return p;
}

Outputs run(Machine& machine, const Problem& p, DType dtype) {
  const Case& c = p.c;
  Buffers buffers(machine);
  EmbeddingForward forward;
  if (c.given) {
    forward.positions = buffers.ints(p.rows);
  } else {
    forward.seq_len = c.T;
    forward.position_offset = c.offset;
  }
  forward.tokens = buffers.ints(p.tokens);
  forward.token_table = buffers.input({c.V, c.C}, dtype, p.table);
  if (c.positions > 0) {
    forward.position_table = buffers.input({c.positions, c.C}, dtype, p.positions);
  }
  forward.out = buffers.output({c.B * c.T, c.C}, dtype);
  ops::embedding_forward(forward, *machine.stream);

  EmbeddingBackward backward;
  backward.seq_len = c.T;
  backward.tokens = forward.tokens;
  backward.dout = buffers.input({c.B * c.T, c.C}, dtype, p.dout);
  backward.dtoken_table = buffers.inout({c.V, c.C}, DType::kF32, p.dtable);
  if (c.positions > 0) {
    backward.dposition_table = buffers.inout({c.positions, c.C}, DType::kF32, p.dpositions);
  }
  ScratchQuery query;
  query.rows = c.B * c.T;
  query.channels = c.C;
  query.vocab = c.V;
  query.dtype = dtype;
  backward.scratch = buffers.scratch(ops::scratch_bytes(query, *machine.stream));
  for (int i = 0; i < 2; ++i) ops::embedding_backward(backward, *machine.stream);

  Outputs outputs{{"out", buffers.read(forward.out)},
                  {"dtable", buffers.read(backward.dtoken_table)}};
  if (c.positions > 0) outputs["dpositions"] = buffers.read(backward.dposition_table);
  buffers.check();
  return outputs;
}

// out is one rounded sum. A table row's gradient is an fp32 sum of at most 2 N terms of random
// sign: 2^-24 sqrt(2 N), and a few roundings.
Expectations reference(const Problem& p, DType dtype) {
  const Case& c = p.c;
  Values out(p.dout.size());
  Values dtable = p.dtable;
  Values dpositions = p.dpositions;
  for (std::int64_t i = 0; i < c.B * c.T * c.C; ++i) {
    const std::int64_t row = i / c.C;
    const auto column = static_cast<std::size_t>(i % c.C);
    const auto token = static_cast<std::size_t>(p.tokens[static_cast<std::size_t>(row)] * c.C);
    const auto at = static_cast<std::size_t>(i);
    out[at] = p.table[token + column];
    dtable[token + column] += 2.0 * p.dout[at];
    if (c.positions == 0) continue;
    const std::int64_t t = row % c.T;
    out[at] +=
        p.positions[static_cast<std::size_t>(p.rows[static_cast<std::size_t>(row)] * c.C) + column];
    dpositions[static_cast<std::size_t>(t * c.C) + column] += 2.0 * p.dout[at];
  }
  const double sums = 0x1p-24 * (4.0 + std::sqrt(2.0 * static_cast<double>(c.B * c.T)));
  Expectations expected{{"out", {out, 0x1p-24 + unit_roundoff(dtype)}}, {"dtable", {dtable, sums}}};
  if (c.positions > 0) expected["dpositions"] = {dpositions, sums};
  return expected;
}

template <typename Function>
void for_each_case(const Function& function) {
  for (const DType dtype : kStorageTypes) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(fmt::format("B{} T{} V{} C{} {} {}", c.B, c.T, c.V, c.C,
                               c.given ? "given" : "counted", name_of(dtype)));
      function(problem(c, dtype), dtype);
    }
  }
}

TEST(Embedding, MatchesFloat64) {
  Machine cpu = open_cpu();
  for_each_case([&](const Problem& p, DType dtype) {
    expect_close(run(cpu, p, dtype), reference(p, dtype));
  });
}

// The lookup is linear: with dout = weights, the numeric gradient of the float64 lookup is what
// backward adds to a zero table (the reference above adds it twice).
TEST(Embedding, GradientMatchesFiniteDifferences) {
  Problem p = problem({2, 5, 3, 7, 0, 5}, DType::kF32);
  std::fill(p.dtable.begin(), p.dtable.end(), 0.0);
  std::fill(p.dpositions.begin(), p.dpositions.end(), 0.0);
  const auto numeric = [&](Values Problem::*member) {
    const VectorFunction f = [&](const Values& values) {
      Problem moved = p;
      moved.*member = values;
      return reference(moved, DType::kF64).at("out").values;
    };
    Values gradient = numeric_gradient(f, p.*member, p.dout);
    for (double& g : gradient) g *= 2.0;
    return gradient;
  };
  Machine cpu = open_cpu();
  const Outputs outputs = run(cpu, p, DType::kF32);
  // fp32 sums of up to 20 terms: under 8 roundings of 2^-24.
  EXPECT_LE(relative_error(outputs.at("dtable"), numeric(&Problem::table)), 8.0 * 0x1p-24);
  EXPECT_LE(relative_error(outputs.at("dpositions"), numeric(&Problem::positions)), 8.0 * 0x1p-24);
}

TEST(Embedding, IsTheSameAtAnyThreadCount) {
  for_each_case([](const Problem& p, DType dtype) {
    expect_thread_independent([&](Machine& machine) { return run(machine, p, dtype); });
  });
}

// Both sides are within the tolerance of the exact result.
TEST(Embedding, CudaMatchesCpu) {
  LOCKSTEP_OPEN_CUDA(cuda);
  Machine cpu = open_cpu();
  at_any_alignment(cuda, [&] {
    for_each_case([&](const Problem& p, DType dtype) {
      expect_close(run(cuda, p, dtype), like(run(cpu, p, dtype), reference(p, dtype), 2.0));
    });
  });
}

LOCKSTEP_PERF(Embedding) {
  for (const DType dtype : kStorageTypes) {
    const Tensor tokens = perf.ints({8192}, 50257);
    const Tensor rows = perf.values({8192, 768}, dtype);
    const EmbeddingForward forward{.out = rows,
                                   .tokens = tokens,
                                   .token_table = perf.values({50304, 768}, dtype),
                                   .position_table = perf.values({1024, 768}, dtype),
                                   .seq_len = 1024};
    const auto bytes = static_cast<double>(rows.bytes());
    perf.measure(fmt::format("embedding_forward 8192 x 768 {}", name_of(dtype)),
                 {.bytes = 3.0 * bytes}, [&] { ops::embedding_forward(forward, perf.stream()); });
    const ScratchQuery query{.attention = {}, .rows = 8192, .channels = 768, .vocab = 50304};
    const EmbeddingBackward backward{
        .dtoken_table = perf.values({50304, 768}, DType::kF32),
        .dposition_table = perf.values({1024, 768}, DType::kF32),
        .tokens = tokens,
        .dout = rows,
        .seq_len = 1024,
        .scratch = perf.bytes(ops::scratch_bytes(query, perf.stream()))};
    perf.measure(fmt::format("embedding_backward 8192 x 768 {}", name_of(dtype)),
                 {.bytes = 2.0 * bytes}, [&] { ops::embedding_backward(backward, perf.stream()); });
  }
}

}  // namespace
}  // namespace lockstep
