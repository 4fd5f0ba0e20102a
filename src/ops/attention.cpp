// Checks of attention.
#include "ops/attention.h"

#include "ops/check.h"
#include "ops/scratch.h"

namespace lockstep::ops {
namespace {

constexpr std::int64_t kMaxHeadDim = 256;

void check_heads(std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim) {
  CHECK(heads > 0 && kv_heads > 0 && heads % kv_heads == 0,
        "{} query heads over {} key/value heads", heads, kv_heads);
  CHECK(head_dim > 0 && head_dim <= kMaxHeadDim, "head_dim {} is not in 1 .. {}", head_dim,
        kMaxHeadDim);
}

void check_shape(const AttentionShape& s) {
  CHECK(s.batch > 0 && s.q_len > 0, "attention of {} sequences of {} queries", s.batch, s.q_len);
  check_heads(s.heads, s.kv_heads, s.head_dim);
  CHECK(s.q_offset >= 0 && s.q_offset + s.q_len <= s.kv_len && s.kv_len <= s.kv_rows,
        "queries {}+{} over {} keys in {} rows", s.q_offset, s.q_len, s.kv_len, s.kv_rows);
}

// Checks q-like and k-like tensors of one shape and dtype.
struct Rows {
  const AttentionShape& shape;
  DType dtype;
  const Stream& stream;

  void query(const char* name, const Tensor& tensor) const {
    check_matrix(name, tensor, shape.batch * shape.q_len, shape.heads * shape.head_dim, dtype,
                 stream, Layout::kStridedRows);
  }
  void key(const char* name, const Tensor& tensor) const {
    check_matrix(name, tensor, shape.batch * shape.kv_rows, shape.kv_heads * shape.head_dim, dtype,
                 stream, Layout::kStridedRows);
  }
  void lse(const char* name, const Tensor& tensor) const {
    check_vector(name, tensor, shape.batch * shape.heads * shape.q_len, DType::kF32, stream);
  }
  void starts(const char* name, const Tensor& tensor) const {
    if (tensor) check_vector(name, tensor, shape.batch * shape.q_len, DType::kI32, stream);
  }
};

// N new rows of a batch over pages of `rows` rows in all.
void check_batch(const PagedBatch& batch, std::int64_t rows, const Stream& stream) {
  const std::int64_t S = batch.kv_lens.count();
  CHECK(batch.page_size > 0 && rows % batch.page_size == 0, "pages of {} tokens in {} rows",
        batch.page_size, rows);
  check_vector("paged.kv_lens", batch.kv_lens, S, DType::kI32, stream);
  check_vector("paged.query_starts", batch.query_starts, S + 1, DType::kI32, stream);
  check_matrix("paged.page_table", batch.page_table, S, batch.page_table.cols(), DType::kI32,
               stream);
}

}  // namespace

void attention_forward(const AttentionForward& args, Stream& stream) {
  check_shape(args.shape);
  check_storage("attention_forward.q", args.q.dtype);
  const Rows rows{args.shape, args.q.dtype, stream};
  rows.query("attention_forward.out", args.out);
  rows.query("attention_forward.q", args.q);
  rows.key("attention_forward.k", args.k);
  rows.key("attention_forward.v", args.v);
  if (args.lse) rows.lse("attention_forward.lse", args.lse);
  rows.starts("attention_forward.document_starts", args.document_starts);
  stream.kernels().attention_forward(args, stream);
}

void attention_backward(const AttentionBackward& args, Stream& stream) {
  const AttentionShape& shape = args.shape;
  check_shape(shape);
  CHECK(shape.q_offset == 0 && shape.q_len == shape.kv_len && shape.kv_len == shape.kv_rows,
        "attention_backward needs whole sequences: offset {}, {} queries, {} keys, {} rows",
        shape.q_offset, shape.q_len, shape.kv_len, shape.kv_rows);
  check_storage("attention_backward.q", args.q.dtype);
  const Rows rows{shape, args.q.dtype, stream};
  rows.query("attention_backward.dq", args.dq);
  rows.key("attention_backward.dk", args.dk);
  rows.key("attention_backward.dv", args.dv);
  rows.query("attention_backward.dout", args.dout);
  rows.query("attention_backward.q", args.q);
  rows.key("attention_backward.k", args.k);
  rows.key("attention_backward.v", args.v);
  rows.query("attention_backward.out", args.out);
  rows.lse("attention_backward.lse", args.lse);
  rows.starts("attention_backward.document_starts", args.document_starts);
  const ScratchQuery query{.attention = shape, .dtype = args.q.dtype};
  check_scratch("attention_backward.scratch", args.scratch, scratch_bytes(query, stream), stream);
  stream.kernels().attention_backward(args, stream);
}

void paged_attention(const PagedAttention& args, Stream& stream) {
  check_heads(args.heads, args.kv_heads, args.head_dim);
  const std::int64_t N = args.q.rows();
  const std::int64_t query = args.heads * args.head_dim;
  const std::int64_t key = args.kv_heads * args.head_dim;
  const DType dtype = args.q.dtype;
  check_storage("paged_attention.q", dtype);
  const auto matrix = [&](const char* name, const Tensor& tensor, std::int64_t rows,
                          std::int64_t cols) {
    check_matrix(name, tensor, rows, cols, dtype, stream, Layout::kStridedRows);
  };
  matrix("paged_attention.q", args.q, N, query);
  matrix("paged_attention.out", args.out, N, query);
  matrix("paged_attention.k_pages", args.k_pages, args.k_pages.rows(), key);
  matrix("paged_attention.v_pages", args.v_pages, args.k_pages.rows(), key);
  check_batch(args.batch, args.k_pages.rows(), stream);
  stream.kernels().paged_attention(args, stream);
}

void paged_append(const PagedAppend& args, Stream& stream) {
  const std::int64_t N = args.k.rows();
  const std::int64_t C = args.k.cols();
  const DType dtype = args.k.dtype;
  check_storage("paged_append.k", dtype);
  const auto matrix = [&](const char* name, const Tensor& tensor, std::int64_t rows) {
    check_matrix(name, tensor, rows, C, dtype, stream, Layout::kStridedRows);
  };
  matrix("paged_append.k", args.k, N);
  matrix("paged_append.v", args.v, N);
  matrix("paged_append.k_pages", args.k_pages, args.k_pages.rows());
  matrix("paged_append.v_pages", args.v_pages, args.k_pages.rows());
  check_batch(args.batch, args.k_pages.rows(), stream);
  stream.kernels().paged_append(args, stream);
}

}  // namespace lockstep::ops
