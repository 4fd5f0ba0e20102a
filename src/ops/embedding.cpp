// Checks of the embedding.
#include "ops/embedding.h"

#include "ops/check.h"
#include "ops/scratch.h"

namespace lockstep::ops {
namespace {

void check_positions(const char* name, const Tensor& table, std::int64_t C, DType dtype,
                     std::int64_t last, const Stream& stream) {
  check_matrix(name, table, table.rows(), C, dtype, stream);
  CHECK(last <= table.rows(), "{} has {} rows, {} are read", name, table.rows(), last);
}

void check_sequences(std::int64_t N, std::int64_t seq_len) {
  CHECK(seq_len > 0 && N % seq_len == 0, "{} tokens in sequences of {}", N, seq_len);
}

}  // namespace

void embedding_forward(const EmbeddingForward& args, Stream& stream) {
  check_format("embedding_forward.token_table", args.token_table);
  const std::int64_t N = args.out.rows();
  const std::int64_t C = args.out.cols();
  const DType dtype = args.out.dtype;
  check_storage("embedding_forward.out", dtype);
  check_matrix("embedding_forward.out", args.out, N, C, dtype, stream);
  check_vector("embedding_forward.tokens", args.tokens, N, DType::kI32, stream);
  check_matrix("embedding_forward.token_table", args.token_table.data, args.token_table.data.rows(),
               C, dtype, stream);
  if (args.positions) {
    check_vector("embedding_forward.positions", args.positions, N, DType::kI32, stream);
  } else {
    check_sequences(N, args.seq_len);
    CHECK(args.position_offset >= 0, "position_offset {}", args.position_offset);
  }
  if (args.position_table) {
    check_positions("embedding_forward.position_table", args.position_table, C, dtype,
                    args.positions ? 0 : args.position_offset + args.seq_len, stream);
  }
  stream.kernels().embedding_forward(args, stream);
}

void embedding_backward(const EmbeddingBackward& args, Stream& stream) {
  const std::int64_t N = args.dout.rows();
  const std::int64_t C = args.dout.cols();
  const std::int64_t V = args.dtoken_table.rows();
  check_storage("embedding_backward.dout", args.dout.dtype);
  check_matrix("embedding_backward.dout", args.dout, N, C, args.dout.dtype, stream);
  check_vector("embedding_backward.tokens", args.tokens, N, DType::kI32, stream);
  check_matrix("embedding_backward.dtoken_table", args.dtoken_table, V, C, DType::kF32, stream);
  check_sequences(N, args.seq_len);
  if (args.dposition_table) {
    check_positions("embedding_backward.dposition_table", args.dposition_table, C, DType::kF32,
                    args.seq_len, stream);
  }
  const ScratchQuery query{
      .attention = {}, .rows = N, .channels = C, .vocab = V, .dtype = args.dout.dtype};
  check_scratch("embedding_backward.scratch", args.scratch, scratch_bytes(query, stream), stream);
  stream.kernels().embedding_backward(args, stream);
}

}  // namespace lockstep::ops
