// Attention over pages: every sequence of a mixed batch against the same sequence by itself, in
// float64 and bit for bit, appending, rows of nobody, and the CUDA backend against the CPU.
#include "ops/attention.h"
#include "support/perf.h"
#include "support/support.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace lockstep {
namespace {

using namespace lockstep::test;

using Values = std::vector<double>;
using Ints = std::vector<std::int32_t>;

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

// Sequences of `tokens` tokens, the last `fresh` of which are the call's rows.
struct Sequence {
  std::int32_t tokens, fresh;
};

struct Case {
  std::vector<Sequence> sequences;
  std::int64_t H, G, D, page_size;
  std::int64_t idle = 0;  // rows of nobody
};

// Decoding, prefills below, at and above a tile of 64, both in one batch, sequences without rows;
// pages smaller than, as large as and larger than a tile of keys.
const Case kCases[] = {
    {{{1, 1}}, 1, 1, 8, 1},
    {{{40, 1}, {7, 1}, {129, 1}, {1, 1}}, 4, 2, 64, 16, 2},
    {{{65, 65}, {300, 1}, {12, 3}, {128, 64}}, 4, 1, 32, 16},
    {{{20, 0}, {130, 130}, {20, 0}, {257, 2}, {1, 0}}, 2, 2, 128, 128, 5},
    {{{33, 33}, {17, 1}}, 3, 3, 4, 8},
    {{{70, 5}, {3, 3}}, 2, 1, 6, 7, 1},
    {{{35, 35}, {500, 1}}, 2, 1, 256, 256},
    {{{90, 1}, {66, 66}}, 2, 2, 100, 32},
    {{{0, 0}, {0, 0}}, 2, 1, 16, 4, 3},
};

struct Problem {
  Case c;
  std::vector<Values> q, k, v;  // per sequence, of all its tokens, dense

  std::int64_t pages_of(const Sequence& s) const {
    return (s.tokens + c.page_size - 1) / c.page_size;
  }
  std::int64_t table_columns() const {
    std::int64_t most = 1;
    for (const Sequence& s : c.sequences) most = std::max(most, pages_of(s));
    return most;
  }
  std::int64_t pages() const {
    std::int64_t sum = 1;  // one that nobody uses
    for (const Sequence& s : c.sequences) sum += pages_of(s);
    return sum;
  }
  std::int64_t rows() const {
    std::int64_t sum = c.idle;
    for (const Sequence& s : c.sequences) sum += s.fresh;
    return sum;
  }
  // Pages are handed out backwards, so that no sequence lies in order. Unused entries are far out.
  Ints page_table() const {
    Ints table(c.sequences.size() * index(table_columns()), 1 << 30);
    auto next = static_cast<std::int32_t>(pages() - 1);
    for (std::size_t s = 0; s < c.sequences.size(); ++s) {
      for (std::int64_t p = 0; p < pages_of(c.sequences[s]); ++p) {
        table[s * index(table_columns()) + index(p)] = next--;
      }
    }
    return table;
  }
};

Problem problem(const Case& c, DType dtype) {
  Problem p{c, {}, {}, {}};
  for (std::size_t s = 0; s < c.sequences.size(); ++s) {
    const std::int64_t tokens = c.sequences[s].tokens;
    const std::uint64_t seed = 10 * s;
    p.q.push_back(rounded(random_values(tokens * c.H * c.D, seed + 1, 2.0), dtype));
    p.k.push_back(rounded(random_values(tokens * c.G * c.D, seed + 2, 2.0), dtype));
    p.v.push_back(rounded(random_values(tokens * c.G * c.D, seed + 3), dtype));
  }
  return p;
}

// The new rows of all sequences, those of nobody last.
Values fresh_rows(const Problem& p, const std::vector<Values>& of, std::int64_t columns) {
  Values rows;
  for (std::size_t s = 0; s < of.size(); ++s) {
    const std::int64_t first = p.c.sequences[s].tokens - p.c.sequences[s].fresh;
    rows.insert(rows.end(), of[s].begin() + first * columns, of[s].end());
  }
  rows.resize(index(p.rows() * columns), 0.5);
  return rows;
}

// Pages that hold what was there before the call: NaN wherever no earlier token lies.
Values old_pages(const Problem& p, const std::vector<Values>& of) {
  const std::int64_t C = p.c.G * p.c.D;
  Values pages(index(p.pages() * p.c.page_size * C), std::nan(""));
  const Ints table = p.page_table();
  for (std::size_t s = 0; s < of.size(); ++s) {
    const std::int64_t old = p.c.sequences[s].tokens - p.c.sequences[s].fresh;
    for (std::int64_t t = 0; t < old; ++t) {
      const std::int64_t page = table[s * index(p.table_columns()) + index(t / p.c.page_size)];
      std::copy_n(of[s].begin() + t * C, C,
                  pages.begin() + (page * p.c.page_size + t % p.c.page_size) * C);
    }
  }
  return pages;
}

PagedBatch batch_of(const Problem& p, Buffers& buffers) {
  Ints starts{0};
  Ints lens;
  for (const Sequence& s : p.c.sequences) {
    starts.push_back(starts.back() + s.fresh);
    lens.push_back(s.tokens);
  }
  const Ints table = p.page_table();
  const auto S = static_cast<std::int64_t>(p.c.sequences.size());
  return {.page_table = buffers.input({S, p.table_columns()}, DType::kI32,
                                      Values(table.begin(), table.end())),
          .query_starts = buffers.ints(starts),
          .kv_lens = buffers.ints(lens),
          .page_size = p.c.page_size};
}

// Appends the new rows, then attends.
Outputs run(Machine& machine, const Problem& p, DType dtype) {
  const Case& c = p.c;
  Buffers buffers(machine);
  const std::int64_t C = c.G * c.D;
  const Shape pages{p.pages() * c.page_size, C};
  PagedAppend append;
  append.batch = batch_of(p, buffers);
  append.k_pages = buffers.inout(pages, dtype, old_pages(p, p.k), 2 * C);
  append.v_pages = buffers.inout(pages, dtype, old_pages(p, p.v));
  append.k = buffers.input({p.rows(), C}, dtype, fresh_rows(p, p.k, C));
  append.v = buffers.input({p.rows(), C}, dtype, fresh_rows(p, p.v, C), C + 3);
  ops::paged_append(append, *machine.stream);
  PagedAttention args;
  args.batch = append.batch;
  args.q = buffers.input({p.rows(), c.H * c.D}, dtype, fresh_rows(p, p.q, c.H * c.D));
  args.out = buffers.output({p.rows(), c.H * c.D}, dtype);
  args.k_pages = append.k_pages;
  args.v_pages = append.v_pages;
  args.heads = c.H;
  args.kv_heads = c.G;
  args.head_dim = c.D;
  ops::paged_attention(args, *machine.stream);
  buffers.check();
  return {{"out", buffers.read(args.out)},
          {"k", buffers.read(append.k_pages)},
          {"v", buffers.read(append.v_pages)}};
}

// One sequence in float64: its new rows.
Values attended(const Problem& p, std::size_t s) {
  const Case& c = p.c;
  const std::int64_t tokens = c.sequences[s].tokens;
  const std::int64_t fresh = c.sequences[s].fresh;
  Values out(index(fresh * c.H * c.D));
  for (std::int64_t t = tokens - fresh; t < tokens; ++t) {
    for (std::int64_t h = 0; h < c.H; ++h) {
      const double* q = &p.q[s][index((t * c.H + h) * c.D)];
      double* to = &out[index(((t - tokens + fresh) * c.H + h) * c.D)];
      double sum = 0.0;
      for (std::int64_t j = 0; j <= t; ++j) {
        const std::size_t key = index((j * c.G + h / (c.H / c.G)) * c.D);
        const double score = std::inner_product(q, q + c.D, &p.k[s][key], 0.0);
        const double weight = std::exp(score / std::sqrt(static_cast<double>(c.D)));
        sum += weight;
        for (std::int64_t d = 0; d < c.D; ++d) to[d] += weight * p.v[s][key + index(d)];
      }
      for (std::int64_t d = 0; d < c.D; ++d) to[d] /= sum;
    }
  }
  return out;
}

// attention_test.cpp derives the tolerance.
Expectations reference(const Problem& p, DType dtype) {
  Values out;
  std::int32_t longest = 1;
  for (std::size_t s = 0; s < p.c.sequences.size(); ++s) {
    const Values rows = attended(p, s);
    out.insert(out.end(), rows.begin(), rows.end());
    longest = std::max(longest, p.c.sequences[s].tokens);
  }
  out.resize(index(p.rows() * p.c.H * p.c.D), 0.0);  // rows of nobody
  const double fp32 = 0x1p-24 * (16.0 + 2.0 * std::sqrt(static_cast<double>(p.c.D)) +
                                 std::sqrt(static_cast<double>(longest)));
  return {{"out", {out, fp32 + unit_roundoff(dtype)}}};
}

template <typename Function>
void for_each_case(const Function& function) {
  for (const DType dtype : kStorageTypes) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(fmt::format("{} sequences H{} G{} D{} pages of {} {}", c.sequences.size(), c.H,
                               c.G, c.D, c.page_size, name_of(dtype)));
      function(problem(c, dtype), dtype);
    }
  }
}

// The pages after the call: the old rows, the new ones, and nothing else touched.
void expect_appended(const Problem& p, const Outputs& outputs) {
  Problem after = p;
  for (Sequence& s : after.c.sequences) s.fresh = 0;
  for (const auto& [name, of] : {std::pair("k", &p.k), std::pair("v", &p.v)}) {
    const Values expected = old_pages(after, *of);
    const Values& pages = outputs.at(name);
    ASSERT_EQ(pages.size(), expected.size());
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < pages.size(); ++i) {
      const bool same = std::isnan(expected[i]) ? std::isnan(pages[i]) : pages[i] == expected[i];
      wrong += same ? 0 : 1;
    }
    EXPECT_EQ(wrong, 0U) << name;
  }
}

// Each sequence by itself gives the bits that it gives among the others.
void expect_independent(Machine& machine, const Problem& p, DType dtype, const Outputs& together) {
  std::int64_t row = 0;
  const std::int64_t columns = p.c.H * p.c.D;
  for (std::size_t s = 0; s < p.c.sequences.size(); ++s) {
    const std::int64_t fresh = p.c.sequences[s].fresh;
    if (fresh == 0) continue;
    Problem alone{p.c, {p.q[s]}, {p.k[s]}, {p.v[s]}};
    alone.c.sequences = {p.c.sequences[s]};
    alone.c.idle = 0;
    const Values& out = together.at("out");
    const Values mine(out.begin() + row * columns, out.begin() + (row + fresh) * columns);
    EXPECT_EQ(run(machine, alone, dtype).at("out"), mine) << "sequence " << s;
    row += fresh;
  }
}

TEST(AttentionPaged, MatchesFloat64) {
  Machine cpu = open_cpu();
  for_each_case([&](const Problem& p, DType dtype) {
    const Outputs outputs = run(cpu, p, dtype);
    expect_close(outputs, reference(p, dtype));
    expect_appended(p, outputs);
    expect_independent(cpu, p, dtype, outputs);
  });
}

TEST(AttentionPaged, IsTheSameAtAnyThreadCount) {
  for_each_case([](const Problem& p, DType dtype) {
    expect_thread_independent([&](Machine& machine) { return run(machine, p, dtype); });
  });
}

// Both sides are within the tolerance of the exact result.
TEST(AttentionPaged, CudaMatchesCpu) {
  LOCKSTEP_OPEN_CUDA(cuda);
  Machine cpu = open_cpu();
  at_any_alignment(cuda, [&] {
    for_each_case([&](const Problem& p, DType dtype) {
      const Outputs outputs = run(cuda, p, dtype);
      expect_close(outputs, like(run(cpu, p, dtype), reference(p, dtype), 2.0));
      expect_appended(p, outputs);
      expect_independent(cuda, p, dtype, outputs);
    });
  });
}

// 32 sequences decode one token each.
LOCKSTEP_PERF(AttentionPaged) {
  constexpr std::int64_t S = 32, H = 32, G = 8, D = 128, kPage = 16;
  for (const DType dtype : kStorageTypes) {
    for (const std::int32_t tokens : {256, 2048}) {
      const std::int64_t pages = S * tokens / kPage;
      Ints table(index(pages)), starts(index(S + 1));
      std::iota(table.begin(), table.end(), 0);
      std::iota(starts.begin(), starts.end(), 0);
      const Ints lens(index(S), tokens);
      const auto ints = [&](const Ints& values, Shape shape) {
        return Tensor(const_cast<std::int32_t*>(perf.objects(values)), shape, DType::kI32,
                      perf.machine().kind());
      };
      const PagedAttention args{.out = perf.values({S, H * D}, dtype),
                                .q = perf.values({S, H * D}, dtype),
                                .k_pages = perf.values({pages * kPage, G * D}, dtype),
                                .v_pages = perf.values({pages * kPage, G * D}, dtype),
                                .batch = {.page_table = ints(table, {S, tokens / kPage}),
                                          .query_starts = ints(starts, {S + 1}),
                                          .kv_lens = ints(lens, {S}),
                                          .page_size = kPage},
                                .heads = H,
                                .kv_heads = G,
                                .head_dim = D};
      perf.measure(fmt::format("paged_attention {} x {} tokens H{} G{} D{} {}", S, tokens, H, G, D,
                               name_of(dtype)),
                   {.bytes = 2.0 * static_cast<double>(args.k_pages.bytes())},
                   [&] { ops::paged_attention(args, perf.stream()); });
    }
  }
}

}  // namespace
}  // namespace lockstep
