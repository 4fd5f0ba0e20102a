// Checks of attention.
#include "ops/attention.h"

#include "ops/check.h"
#include "ops/scratch.h"

namespace lockstep::ops {
namespace {

void check_shape(const AttentionShape& s) {
  CHECK(s.batch > 0 && s.q_len > 0, "attention of {} sequences of {} queries", s.batch, s.q_len);
  CHECK(s.heads > 0 && s.kv_heads > 0 && s.heads % s.kv_heads == 0,
        "{} query heads over {} key/value heads", s.heads, s.kv_heads);
  CHECK(s.head_dim > 0 && s.head_dim % 8 == 0 && s.head_dim <= 128,
        "head_dim {} is not a multiple of 8 up to 128", s.head_dim);
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
};

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
  const ScratchQuery query{.attention = shape, .dtype = args.q.dtype};
  check_scratch("attention_backward.scratch", args.scratch, scratch_bytes(query, stream), stream);
  stream.kernels().attention_backward(args, stream);
}

}  // namespace lockstep::ops
