// Checks of the norms.
#include "ops/norm.h"

#include "ops/check.h"
#include "ops/scratch.h"

namespace lockstep::ops {

void norm_forward(const NormForward& args, Stream& stream) {
  const std::int64_t N = args.x.rows();
  const std::int64_t C = args.x.cols();
  const DType dtype = args.x.dtype;
  check_storage("norm_forward.x", dtype);
  check_matrix("norm_forward.out", args.out, N, C, dtype, stream);
  check_matrix("norm_forward.x", args.x, N, C, dtype, stream);
  check_vector("norm_forward.weight", args.weight, C, dtype, stream);
  if (args.bias) check_vector("norm_forward.bias", args.bias, C, dtype, stream);
  check_vector("norm_forward.rstd", args.rstd, N, DType::kF32, stream);
  if (args.mean) check_vector("norm_forward.mean", args.mean, N, DType::kF32, stream);
  CHECK(args.eps > 0.0f, "norm_forward.eps is {}", args.eps);
  stream.kernels().norm_forward(args, stream);
}

void norm_backward(const NormBackward& args, Stream& stream) {
  const std::int64_t N = args.x.rows();
  const std::int64_t C = args.x.cols();
  const DType dtype = args.x.dtype;
  check_storage("norm_backward.x", dtype);
  check_matrix("norm_backward.dx", args.dx, N, C, dtype, stream);
  check_matrix("norm_backward.dy", args.dy, N, C, dtype, stream);
  check_matrix("norm_backward.x", args.x, N, C, dtype, stream);
  if (args.residual_grad) {
    check_matrix("norm_backward.residual_grad", args.residual_grad, N, C, dtype, stream);
  }
  check_vector("norm_backward.weight", args.weight, C, dtype, stream);
  check_vector("norm_backward.dweight", args.dweight, C, DType::kF32, stream);
  if (args.dbias) check_vector("norm_backward.dbias", args.dbias, C, DType::kF32, stream);
  check_vector("norm_backward.rstd", args.rstd, N, DType::kF32, stream);
  if (args.mean) check_vector("norm_backward.mean", args.mean, N, DType::kF32, stream);
  const ScratchQuery query{.attention = {}, .rows = N, .channels = C, .dtype = dtype};
  check_scratch("norm_backward.scratch", args.scratch, scratch_bytes(query, stream), stream);
  stream.kernels().norm_backward(args, stream);
}

}  // namespace lockstep::ops
