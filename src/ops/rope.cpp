// Checks of the rotary embedding.
#include "ops/rope.h"

#include "ops/check.h"

namespace lockstep::ops {

void rope(const RopeArgs& args, Stream& stream) {
  const std::int64_t N = args.x.rows();
  const std::int64_t width = args.x.cols();
  const std::int64_t D = args.head_dim;
  CHECK(D > 0 && D % 2 == 0 && width % D == 0, "rope: head_dim {} in rows of {}", D, width);
  check_storage("rope.x", args.x.dtype);
  check_matrix("rope.x", args.x, N, width, args.x.dtype, stream, Layout::kStridedRows);
  check_matrix("rope.table", args.table, args.table.rows(), D, DType::kF32, stream);
  if (args.positions) {
    check_vector("rope.positions", args.positions, N, DType::kI32, stream);
  } else {
    CHECK(args.seq_len > 0 && N % args.seq_len == 0, "rope: {} rows in sequences of {}", N,
          args.seq_len);
    CHECK(args.position_offset >= 0 && args.position_offset + args.seq_len <= args.table.rows(),
          "rope: positions {}+{} in a table of {}", args.position_offset, args.seq_len,
          args.table.rows());
  }
  stream.kernels().rope(args, stream);
}

}  // namespace lockstep::ops
