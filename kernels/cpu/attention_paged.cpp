// Attention over pages of keys and values, and their filling: the tiles of attention.cpp, one grid
// of them per sequence, so that a sequence's result does not depend on its neighbours.
#include "kernels/cpu/attention.h"
#include "kernels/cpu/kernels.h"

#include <algorithm>
#include <cstring>

namespace lockstep::cpu {
namespace {

const std::int32_t* ints(const Tensor& tensor) {
  return static_cast<const std::int32_t*>(tensor.data);
}

// What a PagedBatch says of one sequence.
struct Sequence {
  std::int64_t first = 0;  // row of this call
  std::int64_t rows = 0;
  std::int64_t position = 0;  // of the first row
  KeyRows keys;
};

Sequence sequence_of(const PagedBatch& batch, std::int64_t s) {
  const std::int32_t* starts = ints(batch.query_starts);
  Sequence sequence;
  sequence.first = starts[s];
  sequence.rows = starts[s + 1] - starts[s];
  sequence.position = ints(batch.kv_lens)[s] - sequence.rows;
  sequence.keys.pages = ints(batch.page_table) + s * batch.page_table.cols();
  sequence.keys.page_size = batch.page_size;
  return sequence;
}

std::int64_t rows_in_use(const PagedBatch& batch) {
  return ints(batch.query_starts)[batch.kv_lens.count()];
}

void copy_row(const Tensor& dst, std::int64_t dst_row, const Tensor& src, std::int64_t src_row) {
  std::memcpy(element(dst, dst_row), element(src, src_row),
              static_cast<std::size_t>(src.cols()) * size_of(src.dtype));
}

std::int64_t most_rows(const PagedBatch& batch) {
  std::int64_t most = 0;
  for (std::int64_t s = 0; s < batch.kv_lens.count(); ++s) {
    most = std::max(most, sequence_of(batch, s).rows);
  }
  return most;
}

// Query rows of one head of a sequence, from `first` of its rows on.
ForwardTask task_of(const PagedAttention& args, const Sequence& sequence, std::int64_t head,
                    std::int64_t first) {
  ForwardTask task{
      .out = args.out, .q = args.q, .k = args.k_pages, .v = args.v_pages, .D = args.head_dim};
  task.query_row = sequence.first + first;
  task.rows = std::min(kQueryTile, sequence.rows - first);
  task.query_column = head * args.head_dim;
  task.key_column = head / (args.heads / args.kv_heads) * args.head_dim;
  task.keys = sequence.keys;
  task.last_seen = sequence.position + first;
  return task;
}

}  // namespace

void paged_attention(const PagedAttention& args, Stream& stream) {
  const std::int64_t tiles = (most_rows(args.batch) + kQueryTile - 1) / kQueryTile;
  const std::int64_t tasks = args.batch.kv_lens.count() * args.heads * tiles;
  CpuContext& context = context_of(stream);
  reserve_forward(context, args.head_dim);
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t index = 0; index < tasks; ++index) {
    const std::int64_t first = index % tiles * kQueryTile;
    const Sequence sequence = sequence_of(args.batch, index / tiles / args.heads);
    if (first >= sequence.rows) continue;
    attend(task_of(args, sequence, index / tiles % args.heads, first), context);
  }
  const std::size_t bytes = static_cast<std::size_t>(args.out.cols()) * size_of(args.out.dtype);
  for (std::int64_t row = rows_in_use(args.batch); row < args.out.rows(); ++row) {
    std::memset(element(args.out, row), 0, bytes);
  }
}

void paged_append(const PagedAppend& args, Stream& /*stream*/) {
#pragma omp parallel for schedule(static)
  for (std::int64_t s = 0; s < args.batch.kv_lens.count(); ++s) {
    const Sequence sequence = sequence_of(args.batch, s);
    for (std::int64_t i = 0; i < sequence.rows; ++i) {
      const std::int64_t row = sequence.keys.row(sequence.position + i);
      copy_row(args.k_pages, row, args.k, sequence.first + i);
      copy_row(args.v_pages, row, args.v, sequence.first + i);
    }
  }
}

}  // namespace lockstep::cpu
