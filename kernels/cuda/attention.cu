// Which attention kernel runs: tensor cores for 16-bit rows that they can read, plain fp32 or TF32
// for fp32 rows of the same kind, and the kernels for anything otherwise.
#include "kernels/cuda/attention.cuh"

#include "kernels/cuda/context.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/vec.cuh"

#include <algorithm>

namespace lockstep::cuda {
namespace {

// Head sizes that the quick kernels take: whole 16-byte pieces.
bool quick_heads(std::int64_t head_dim, DType dtype) {
  return head_dim <= 128 && head_dim * static_cast<std::int64_t>(size_of(dtype)) % 16 == 0;
}

bool starts_rows_on_16(const Tensor& x) {
  return starts_on_16(x) && x.row_stride * static_cast<std::int64_t>(size_of(x.dtype)) % 16 == 0;
}

template <typename... Tensors>
bool quick(const AttentionShape& shape, const Tensor& document_starts, const Tensor& q,
           const Tensors&... others) {
  return quick_heads(shape.head_dim, q.dtype) && !document_starts && starts_rows_on_16(q) &&
         (starts_rows_on_16(others) && ...);
}

void check_limits(const AttentionShape& s) {
  constexpr std::int64_t kMaxGrid = 65535;
  constexpr std::int64_t kMaxRows = 1 << 24;
  CHECK(s.kv_rows <= kMaxRows, "attention over {} rows", s.kv_rows);
  CHECK(s.batch <= kMaxGrid && s.heads <= kMaxGrid, "attention of {} sequences, {} heads", s.batch,
        s.heads);
}

}  // namespace

void attention_forward(const AttentionForward& args, Stream& stream) {
  check_limits(args.shape);
  if (!quick(args.shape, args.document_starts, args.q, args.out, args.k, args.v)) {
    attention_forward_any(args, stream);
  } else if (args.q.dtype == DType::kF32) {
    (context_of(stream).tf32 ? attention_forward_tf32 : attention_forward_fp32)(args, stream);
  } else {
    attention_forward_mma(args, stream);
  }
}

void attention_backward(const AttentionBackward& args, Stream& stream) {
  check_limits(args.shape);
  CHECK(args.scratch.bytes() >= attention_scratch_bytes(args.shape, args.q.dtype) &&
            starts_on_16(args.scratch),
        "attention: scratch of {} bytes, aligned to 16", args.scratch.bytes());
  if (!quick(args.shape, args.document_starts, args.q, args.out, args.k, args.v, args.dout, args.dq,
             args.dk, args.dv)) {
    attention_backward_any(args, stream);
  } else if (args.q.dtype == DType::kF32) {
    (context_of(stream).tf32 ? attention_backward_tf32 : attention_backward_fp32)(args, stream);
  } else {
    attention_backward_mma(args, stream);
  }
}

std::size_t attention_scratch_bytes(const AttentionShape& shape, DType dtype) {
  const auto rows = static_cast<std::size_t>(shape.batch * shape.heads * shape.q_len);
  const std::size_t plain = rows * sizeof(float);
  if (dtype == DType::kF32 || !quick_heads(shape.head_dim, dtype)) return plain;
  return std::max(plain, attention_scratch_bytes_mma(shape));
}

}  // namespace lockstep::cuda
