// Checks of the rounding.
#include "ops/round_rows.h"

#include "ops/check.h"

namespace lockstep::ops {

void round_rows(const RoundRows& args, Stream& stream) {
  const std::int64_t N = args.out.rows();
  const std::int64_t C = args.out.cols();
  check_storage("round_rows.out", args.out.dtype);
  check_matrix("round_rows.out", args.out, N, C, args.out.dtype, stream, Layout::kStridedRows);
  check_matrix("round_rows.x", args.x, N, C, args.out.dtype, stream, Layout::kStridedRows);
  stream.kernels().round_rows(args, stream);
}

}  // namespace lockstep::ops
