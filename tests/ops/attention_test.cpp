// Attention against a float64 softmax, its float64 gradient against finite differences, thread
// counts, KV caches with offsets, document starts, odd head sizes, and the CUDA backend against the
// CPU on the same cases.
#include "ops/attention.h"

#include "ops/scratch.h"
#include "support/perf.h"
#include "support/support.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

namespace lockstep {
namespace {

using namespace lockstep::test;

using Values = std::vector<double>;

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

// One problem: its shape, whether rows are slices of a packed (q, k, v), how many documents a
// sequence holds (0: no document starts), and dense host values.
struct Problem {
  AttentionShape shape;
  bool packed = false;
  std::int32_t documents = 0;
  std::vector<std::int32_t> starts;  // (B, q_len) or empty
  Values q, k, v, dout;
  Values out, lse;  // what forward saves, in float64; out rounded to storage

  std::int64_t group() const { return shape.heads / shape.kv_heads; }
  std::int64_t q_cols() const { return shape.heads * shape.head_dim; }
  std::int64_t k_cols() const { return shape.kv_heads * shape.head_dim; }
  std::int64_t stride() const { return packed ? q_cols() + 2 * k_cols() : 0; }
  // Element 0 of a head's row in q-like and k-like values.
  std::size_t q_at(std::int64_t b, std::int64_t h, std::int64_t i) const {
    return index((b * shape.q_len + i) * q_cols() + h * shape.head_dim);
  }
  std::size_t k_at(std::int64_t b, std::int64_t h, std::int64_t j) const {
    return index((b * shape.kv_rows + j) * k_cols() + h / group() * shape.head_dim);
  }
  std::int64_t start_of(std::int64_t b, std::int64_t i) const {
    return starts.empty() ? 0 : starts[index(b * shape.q_len + i)];
  }
};

AttentionShape whole(std::int64_t B, std::int64_t T, std::int64_t H, std::int64_t G,
                     std::int64_t D) {
  return {.batch = B,
          .q_len = T,
          .kv_len = T,
          .kv_rows = T,
          .q_offset = 0,
          .heads = H,
          .kv_heads = G,
          .head_dim = D};
}

// Query tiles are 64 rows and key tiles 128: below, at, just above and past two of them; head
// dims 8 to 128; multi-head, grouped-query and multi-query.
const Problem kWhole[] = {
    {whole(2, 1, 2, 2, 8)},           {whole(1, 17, 4, 2, 16)},  {whole(2, 17, 3, 3, 24), true},
    {whole(1, 64, 4, 4, 32), true},   {whole(2, 64, 2, 1, 64)},  {whole(1, 65, 6, 2, 40), true},
    {whole(1, 65, 2, 2, 128)},        {whole(1, 63, 2, 2, 80)},  {whole(1, 130, 4, 2, 64), true},
    {whole(1, 130, 2, 1, 128), true}, {whole(1, 129, 2, 2, 96)}, {whole(1, 257, 1, 1, 64)},
    {whole(3, 66, 7, 1, 64)},         {whole(1, 2, 2, 1, 120)},  {whole(1, 515, 5, 1, 16)},
    {whole(1, 513, 3, 1, 128)},
};

// A KV cache: one new token, several, a prefill into a longer cache, and keys that exist but that
// no query may see yet.
const Problem kCached[] = {
    {{2, 1, 40, 64, 39, 4, 2, 64}},     {{1, 5, 70, 128, 60, 2, 2, 32}},
    {{1, 65, 130, 140, 65, 2, 1, 64}},  {{2, 3, 10, 16, 0, 4, 4, 16}},
    {{1, 1, 1, 8, 0, 2, 1, 128}},       {{2, 1, 300, 301, 299, 2, 2, 8}},
    {{1, 64, 129, 200, 64, 2, 2, 128}},
};

// Head sizes without whole 16-byte pieces, or above 128: rows then begin anywhere.
const Problem kOddHeads[] = {
    {whole(2, 33, 4, 4, 4), true},    {whole(1, 17, 3, 1, 1)},
    {whole(2, 65, 5, 5, 3), true},    {whole(1, 130, 4, 2, 6), true},
    {whole(2, 31, 2, 1, 20), true},   {whole(1, 66, 3, 3, 33)},
    {whole(1, 67, 2, 2, 100), true},  {whole(1, 65, 2, 1, 129), true},
    {whole(2, 40, 2, 2, 136)},        {whole(1, 70, 4, 2, 192), true},
    {whole(1, 129, 2, 1, 256), true}, {whole(2, 1, 2, 2, 4)},
    {{2, 3, 40, 64, 37, 4, 2, 12}},   {{1, 1, 70, 128, 69, 2, 2, 256}},
};

// Documents shorter and longer than a tile, of one token, and of the whole sequence.
const Problem kDocuments[] = {
    {whole(2, 17, 2, 1, 16), true, 3},   {whole(1, 130, 4, 2, 64), true, 1},
    {whole(2, 300, 2, 2, 32), false, 4}, {whole(1, 257, 2, 1, 64), true, 9},
    {whole(1, 40, 3, 3, 8), false, 40},  {whole(1, 200, 2, 1, 80), true, 2},
    {whole(2, 70, 2, 2, 4), true, 5},    {whole(1, 140, 2, 1, 256), false, 3},
};

// The first key of each query's document; the documents end where the seed says.
std::vector<std::int32_t> document_starts(const Problem& p) {
  std::vector<std::int32_t> starts;
  if (p.documents == 0) return starts;
  const std::int64_t T = p.shape.q_len;
  for (std::int64_t b = 0; b < p.shape.batch; ++b) {
    std::vector<std::int32_t> cuts =
        random_ints(p.documents, 7 + static_cast<std::uint64_t>(b), static_cast<std::int32_t>(T));
    cuts.front() = 0;
    for (std::int32_t i = 0; i < T; ++i) {
      std::int32_t start = 0;
      for (const std::int32_t cut : cuts) start = cut <= i ? std::max(start, cut) : start;
      starts.push_back(start);
    }
  }
  return starts;
}

// The softmax row of query i: probabilities of keys 0 .. q_offset + i, and its lse.
Values probabilities(const Problem& p, std::int64_t b, std::int64_t h, std::int64_t i,
                     double& lse) {
  const std::int64_t D = p.shape.head_dim;
  Values scores(index(p.shape.q_offset + i + 1));
  for (std::size_t j = 0; j < scores.size(); ++j) {
    const std::size_t key = p.k_at(b, h, static_cast<std::int64_t>(j));
    for (std::size_t d = 0; d < index(D); ++d) scores[j] += p.q[p.q_at(b, h, i) + d] * p.k[key + d];
    scores[j] /= std::sqrt(static_cast<double>(D));
    if (j < index(p.start_of(b, i))) scores[j] = -std::numeric_limits<double>::infinity();
  }
  const double top = *std::max_element(scores.begin(), scores.end());
  double sum = 0.0;
  for (const double score : scores) sum += std::exp(score - top);
  lse = top + std::log(sum);
  for (double& score : scores) score = std::exp(score - lse);
  return scores;
}

template <typename Function>
void for_each_query(const Problem& p, const Function& function) {
  for (std::int64_t b = 0; b < p.shape.batch; ++b) {
    for (std::int64_t h = 0; h < p.shape.heads; ++h) {
      for (std::int64_t i = 0; i < p.shape.q_len; ++i) function(b, h, i);
    }
  }
}

struct Forward {
  Values out, lse;
};

Forward forward(const Problem& p) {
  const std::size_t D = index(p.shape.head_dim);
  Forward result{Values(p.q.size()), {}};
  for_each_query(p, [&](std::int64_t b, std::int64_t h, std::int64_t i) {
    double lse = 0.0;
    const Values row = probabilities(p, b, h, i, lse);
    result.lse.push_back(lse);  // (B, H, q_len): the order of the visit
    for (std::size_t j = 0; j < row.size(); ++j) {
      const std::size_t key = p.k_at(b, h, static_cast<std::int64_t>(j));
      for (std::size_t d = 0; d < D; ++d) result.out[p.q_at(b, h, i) + d] += row[j] * p.v[key + d];
    }
  });
  return result;
}

Problem filled(Problem p, DType dtype) {
  const AttentionShape& s = p.shape;
  p.q = rounded(random_values(s.batch * s.q_len * p.q_cols(), 1, 2.0), dtype);
  p.k = rounded(random_values(s.batch * s.kv_rows * p.k_cols(), 2, 2.0), dtype);
  p.v = rounded(random_values(s.batch * s.kv_rows * p.k_cols(), 3), dtype);
  p.dout = rounded(random_values(s.batch * s.q_len * p.q_cols(), 4), dtype);
  p.starts = document_starts(p);
  const Forward saved = forward(p);
  p.out = rounded(saved.out, dtype);
  p.lse = saved.lse;
  return p;
}

struct Gradients {
  Values dq, dk, dv;
};

// From the saved out, as the op's contract has it: rowsum(dout * out) carries its rounding.
Gradients backward(const Problem& p) {
  const std::size_t D = index(p.shape.head_dim);
  const double scale = 1.0 / std::sqrt(static_cast<double>(D));
  Gradients g{Values(p.q.size()), Values(p.k.size()), Values(p.v.size())};
  for_each_query(p, [&](std::int64_t b, std::int64_t h, std::int64_t i) {
    double lse = 0.0;
    const Values row = probabilities(p, b, h, i, lse);
    const std::size_t at = p.q_at(b, h, i);
    Values drow(row.size());
    double mean = 0.0;
    for (std::size_t j = 0; j < row.size(); ++j) {
      const std::size_t key = p.k_at(b, h, static_cast<std::int64_t>(j));
      for (std::size_t d = 0; d < D; ++d) drow[j] += p.dout[at + d] * p.v[key + d];
    }
    for (std::size_t d = 0; d < D; ++d) mean += p.dout[at + d] * p.out[at + d];
    for (std::size_t j = 0; j < row.size(); ++j) {
      const std::size_t key = p.k_at(b, h, static_cast<std::int64_t>(j));
      const double ds = scale * row[j] * (drow[j] - mean);
      for (std::size_t d = 0; d < D; ++d) {
        g.dv[key + d] += row[j] * p.dout[at + d];
        g.dq[at + d] += ds * p.k[key + d];
        g.dk[key + d] += ds * p.q[at + d];
      }
    }
  });
  return g;
}

// Rows of a cache beyond kv_len do not exist: they hold NaN, which must reach no output.
Values with_absent_rows(const Problem& p, Values values) {
  const AttentionShape& s = p.shape;
  for (std::int64_t row = 0; row < s.batch * s.kv_rows; ++row) {
    if (row % s.kv_rows < s.kv_len) continue;
    std::fill_n(values.begin() + row * p.k_cols(), p.k_cols(),
                std::numeric_limits<double>::quiet_NaN());
  }
  return values;
}

Outputs run_forward(Machine& machine, const Problem& p, DType dtype) {
  const AttentionShape& s = p.shape;
  Buffers buffers(machine);
  AttentionForward args;
  args.shape = s;
  const Shape q{s.batch * s.q_len, p.q_cols()};
  const Shape k{s.batch * s.kv_rows, p.k_cols()};
  args.q = buffers.input(q, dtype, p.q, p.stride());
  args.k = buffers.input(k, dtype, with_absent_rows(p, p.k), p.stride());
  args.v = buffers.input(k, dtype, with_absent_rows(p, p.v), p.stride());
  args.out = buffers.output(q, dtype);
  args.lse = buffers.output({s.batch, s.heads, s.q_len}, DType::kF32);
  if (!p.starts.empty()) args.document_starts = buffers.ints(p.starts);
  ops::attention_forward(args, *machine.stream);
  Outputs outputs{{"out", buffers.read(args.out)}, {"lse", buffers.read(args.lse)}};
  args.lse = {};
  args.out = buffers.output(q, dtype);
  ops::attention_forward(args, *machine.stream);
  outputs["out without lse"] = buffers.read(args.out);
  buffers.check();
  return outputs;
}

Outputs run_backward(Machine& machine, const Problem& p, DType dtype) {
  const AttentionShape& s = p.shape;
  Buffers buffers(machine);
  AttentionBackward args;
  args.shape = s;
  const Shape q{s.batch * s.q_len, p.q_cols()};
  const Shape k{s.batch * s.kv_rows, p.k_cols()};
  args.q = buffers.input(q, dtype, p.q, p.stride());
  args.k = buffers.input(k, dtype, p.k, p.stride());
  args.v = buffers.input(k, dtype, p.v, p.stride());
  args.out = buffers.input(q, dtype, p.out);
  args.lse = buffers.input({s.batch, s.heads, s.q_len}, DType::kF32, p.lse);
  args.dout = buffers.input(q, dtype, p.dout);
  if (!p.starts.empty()) args.document_starts = buffers.ints(p.starts);
  args.dq = buffers.output(q, dtype, p.stride());
  args.dk = buffers.output(k, dtype, p.stride());
  args.dv = buffers.output(k, dtype, p.stride());
  ScratchQuery query;
  query.attention = s;
  query.dtype = dtype;
  args.scratch = buffers.scratch(ops::scratch_bytes(query, *machine.stream));
  ops::attention_backward(args, *machine.stream);
  buffers.check();
  return {
      {"dq", buffers.read(args.dq)}, {"dk", buffers.read(args.dk)}, {"dv", buffers.read(args.dv)}};
}

// Scores are sums of D products of size up to 4 / sqrt(D): absolute error near 2^-24 times their
// own size (up to about 4) times sqrt(D) / 2; it is the relative error of exp. Sums over T keys add
// sqrt(T), everything else under 16 roundings. Errors of different keys average, so this is ample.
double fp32_error(const Problem& p) {
  return 0x1p-24 * (16.0 + 2.0 * std::sqrt(static_cast<double>(p.shape.head_dim)) +
                    std::sqrt(static_cast<double>(p.shape.kv_len)));
}

Expectations expected_forward(const Problem& p, DType dtype) {
  const Forward f = forward(p);
  const double tolerance = fp32_error(p) + unit_roundoff(dtype);  // out is stored once
  return {{"out", {f.out, tolerance}},
          {"out without lse", {f.out, tolerance}},
          {"lse", {f.lse, fp32_error(p)}}};
}

// dO V^T - rowsum(dO * O) cancels, and lse is rounded to fp32: 8 times forward's fp32 error covers
// the cases here. The reference starts from the same rounded out; the results are stored once.
Expectations expected_backward(const Problem& p, DType dtype) {
  const Gradients g = backward(p);
  const double tolerance = 8.0 * fp32_error(p) + unit_roundoff(dtype);
  return {{"dq", {g.dq, tolerance}}, {"dk", {g.dk, tolerance}}, {"dv", {g.dv, tolerance}}};
}

std::string name(const Problem& p, DType dtype) {
  const AttentionShape& s = p.shape;
  return fmt::format("B{} q{} kv{}/{} offset {} H{} G{} D{} {} documents {} {}", s.batch, s.q_len,
                     s.kv_len, s.kv_rows, s.q_offset, s.heads, s.kv_heads, s.head_dim,
                     p.packed ? "packed" : "dense", p.documents, name_of(dtype));
}

// Every problem with every dtype, traced.
template <typename Function>
void for_each_forward(const Function& function) {
  for (const DType dtype : kStorageTypes) {
    for (const std::span<const Problem> problems :
         std::initializer_list<std::span<const Problem>>{kWhole, kCached, kOddHeads, kDocuments}) {
      for (const Problem& shape : problems) {
        SCOPED_TRACE(name(shape, dtype));
        function(filled(shape, dtype), dtype);
      }
    }
  }
}

// Those that have a backward: whole sequences.
template <typename Function>
void for_each_whole(const Function& function) {
  for_each_forward([&](const Problem& p, DType dtype) {
    if (p.shape.q_offset == 0 && p.shape.q_len == p.shape.kv_rows) function(p, dtype);
  });
}

TEST(Attention, ForwardMatchesFloat64) {
  Machine cpu = open_cpu();
  for_each_forward([&](const Problem& p, DType dtype) {
    expect_close(run_forward(cpu, p, dtype), expected_forward(p, dtype));
  });
}

TEST(Attention, Float64GradientMatchesFiniteDifferences) {
  const Problem p = filled({whole(2, 4, 4, 2, 8), false, 2}, DType::kF64);
  const Gradients g = backward(p);
  const auto numeric = [&](Values Problem::*member) {
    const VectorFunction f = [&](const Values& values) {
      Problem moved = p;
      moved.*member = values;
      return forward(moved).out;
    };
    return numeric_gradient(f, p.*member, p.dout);
  };
  // Central differences with step 1e-5: error near 1e-10 of values near 1.
  EXPECT_LE(relative_error(g.dq, numeric(&Problem::q)), 1e-8);
  EXPECT_LE(relative_error(g.dk, numeric(&Problem::k)), 1e-8);
  EXPECT_LE(relative_error(g.dv, numeric(&Problem::v)), 1e-8);
}

TEST(Attention, BackwardMatchesFloat64) {
  Machine cpu = open_cpu();
  for_each_whole([&](const Problem& p, DType dtype) {
    expect_close(run_backward(cpu, p, dtype), expected_backward(p, dtype));
  });
}

TEST(Attention, IsTheSameAtAnyThreadCount) {
  for_each_forward([](const Problem& p, DType dtype) {
    expect_thread_independent([&](Machine& machine) { return run_forward(machine, p, dtype); });
  });
  for_each_whole([](const Problem& p, DType dtype) {
    expect_thread_independent([&](Machine& machine) { return run_backward(machine, p, dtype); });
  });
}

// A document start of 0 is the same as none, to the bit.
TEST(Attention, StartsOfZeroAreNone) {
  Machine cpu = open_cpu();
  Problem p = filled({whole(2, 130, 4, 2, 16), true}, DType::kF32);
  const Outputs without = run_forward(cpu, p, DType::kF32);
  const Outputs gradients = run_backward(cpu, p, DType::kF32);
  p.starts.assign(index(p.shape.batch * p.shape.q_len), 0);
  expect_identical(run_forward(cpu, p, DType::kF32), without);
  expect_identical(run_backward(cpu, p, DType::kF32), gradients);
}

// The first rows of a prefill equal the same tokens decoded one by one through a cache.
TEST(Attention, DecodingEqualsPrefill) {
  Machine cpu = open_cpu();
  const Problem prefill = filled({whole(1, 20, 4, 2, 16)}, DType::kF32);
  const Values all = run_forward(cpu, prefill, DType::kF32).at("out");
  for (std::int64_t t = 0; t < 20; ++t) {
    Problem step = prefill;
    step.shape.q_len = 1;
    step.shape.q_offset = t;
    const auto row = static_cast<std::ptrdiff_t>(t * step.q_cols());
    step.q.assign(prefill.q.begin() + row, prefill.q.begin() + row + step.q_cols());
    const Values expected(all.begin() + row, all.begin() + row + step.q_cols());
    const Values out = run_forward(cpu, step, DType::kF32).at("out");
    EXPECT_LE(relative_error(out, expected), 2.0 * fp32_error(prefill)) << "token " << t;
  }
}

// Tensor cores take the probabilities (and the scores' gradients) rounded to the storage dtype:
// one rounding (two) more than the CPU, within the factor 3.
TEST(Attention, CudaMatchesCpu) {
  LOCKSTEP_OPEN_CUDA(cuda);
  Machine cpu = open_cpu();
  at_any_alignment(cuda, [&] {
    for_each_forward([&](const Problem& p, DType dtype) {
      expect_close(run_forward(cuda, p, dtype),
                   like(run_forward(cpu, p, dtype), expected_forward(p, dtype), 3.0));
    });
    for_each_whole([&](const Problem& p, DType dtype) {
      Outputs outputs = run_backward(cuda, p, dtype);
      Expectations expected = like(run_backward(cpu, p, dtype), expected_backward(p, dtype), 3.0);
      if (p.shape.q_len == 1) {
        // One key has probability 1 whatever q and k are: both gradients are 0, and what is left is
        // the rounding of a difference of two sums of 8 products near 1.
        for (const char* zero : {"dq", "dk"}) {
          for (const double value : outputs[zero]) EXPECT_LE(std::abs(value), 8.0 * 0x1p-21);
          expected.erase(zero);
        }
      }
      expect_close(outputs, expected);
    });
  });
}

// Operands rounded to TF32 (unit roundoff 2^-11): a few of its roundings in a score, and backward's
// difference cancels as in fp32, with few keys nearly all of it.
TEST(Attention, Tf32IsCloseToFloat64) {
  LOCKSTEP_OPEN_CUDA(cuda);
  ASSERT_TRUE(cuda.device->kernels().allow_tf32(cuda.device->context(), true));
  const auto check = [](const Outputs& outputs, Expectations expected, double roundings) {
    for (auto& [what, expectation] : expected) expectation.tolerance += roundings * 0x1p-11;
    expect_close(outputs, expected);
  };
  for_each_forward([&](const Problem& p, DType dtype) {
    if (dtype != DType::kF32) return;
    check(run_forward(cuda, p, dtype), expected_forward(p, dtype), 4.0);
    // With one key, which has probability 1 whatever it is, dq and dk are rounding alone.
    if (p.shape.q_offset != 0 || p.shape.q_len != p.shape.kv_rows || p.shape.q_len == 1) return;
    const Outputs outputs = run_backward(cuda, p, dtype);
    check(outputs, expected_backward(p, dtype), 16.0);
    expect_identical(run_backward(cuda, p, dtype), outputs);
  });
}

// Backward twice on the same inputs gives the same bits: no sum depends on timing.
TEST(Attention, CudaBackwardIsDeterministic) {
  LOCKSTEP_OPEN_CUDA(cuda);
  for_each_whole([&](const Problem& p, DType dtype) {
    expect_identical(run_backward(cuda, p, dtype), run_backward(cuda, p, dtype));
  });
}

void measure_attention(Perf& perf, const Problem& c, DType dtype, const char* arithmetic = "") {
  const AttentionShape& s = c.shape;
  const std::int64_t N = s.batch * s.q_len;
  const Tensor q = perf.values({N, s.heads * s.head_dim}, dtype);
  const Tensor k = perf.values({N, s.kv_heads * s.head_dim}, dtype);
  const Tensor out = perf.values(q.shape, dtype);
  const Tensor lse = perf.values({s.batch, s.heads, s.q_len}, DType::kF32);
  Tensor starts;
  if (c.documents > 0) {
    const std::vector<std::int32_t> host = document_starts(c);
    starts = Tensor(const_cast<std::int32_t*>(perf.objects(host)), {N}, DType::kI32,
                    perf.machine().kind());
  }
  const std::string what =
      fmt::format("B{} T{} H{} G{} D{} {}{}{}", s.batch, s.q_len, s.heads, s.kv_heads, s.head_dim,
                  name_of(dtype), arithmetic, c.documents > 0 ? " documents" : "");
  // Half of the T x T scores, two products of D each; backward makes five.
  const double flops = 2.0 * static_cast<double>(N * s.q_len * s.heads * s.head_dim);
  const AttentionForward forward{
      .out = out, .lse = lse, .q = q, .k = k, .v = k, .document_starts = starts, .shape = s};
  perf.measure("attention_forward " + what, {.flops = flops},
               [&] { ops::attention_forward(forward, perf.stream()); });
  const ScratchQuery query{.attention = s, .dtype = dtype};
  const AttentionBackward backward{.dq = perf.values(q.shape, dtype),
                                   .dk = perf.values(k.shape, dtype),
                                   .dv = perf.values(k.shape, dtype),
                                   .dout = perf.values(q.shape, dtype),
                                   .q = q,
                                   .k = k,
                                   .v = k,
                                   .out = out,
                                   .lse = lse,
                                   .document_starts = starts,
                                   .shape = s,
                                   .scratch = perf.bytes(ops::scratch_bytes(query, perf.stream()))};
  perf.measure("attention_backward " + what, {.flops = 2.5 * flops},
               [&] { ops::attention_backward(backward, perf.stream()); });
}

LOCKSTEP_PERF(Attention) {
  const Problem cases[] = {{whole(8, 1024, 12, 12, 64)}, {whole(8, 1024, 12, 12, 64), false, 8},
                           {whole(8, 1024, 12, 2, 128)}, {whole(16, 1024, 14, 2, 64)},
                           {whole(2, 2048, 32, 8, 128)}, {whole(2, 2048, 8, 8, 256)}};
  for (const DType dtype : kStorageTypes) {
    for (const Problem& c : cases) measure_attention(perf, c, dtype);
  }
  Device& device = *perf.machine().device;
  if (!device.kernels().allow_tf32(device.context(), true)) return;
  for (const int i : {0, 2}) measure_attention(perf, cases[i], DType::kF32, " as TF32");
}

}  // namespace
}  // namespace lockstep
