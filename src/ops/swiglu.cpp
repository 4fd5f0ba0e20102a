// Checks of SwiGLU.
#include "ops/swiglu.h"

#include "ops/check.h"

namespace lockstep::ops {

void swiglu_forward(const SwigluForward& args, Stream& stream) {
  const std::int64_t N = args.out.rows();
  const std::int64_t F = args.out.cols();
  check_storage("swiglu_forward.out", args.out.dtype);
  check_matrix("swiglu_forward.out", args.out, N, F, args.out.dtype, stream);
  check_matrix("swiglu_forward.gate_up", args.gate_up, N, 2 * F, args.out.dtype, stream);
  stream.kernels().swiglu_forward(args, stream);
}

void swiglu_backward(const SwigluBackward& args, Stream& stream) {
  const std::int64_t N = args.dout.rows();
  const std::int64_t F = args.dout.cols();
  const DType dtype = args.dout.dtype;
  check_storage("swiglu_backward.dout", dtype);
  check_matrix("swiglu_backward.dgate_up", args.dgate_up, N, 2 * F, dtype, stream);
  check_matrix("swiglu_backward.dout", args.dout, N, F, dtype, stream);
  check_matrix("swiglu_backward.gate_up", args.gate_up, N, 2 * F, dtype, stream);
  stream.kernels().swiglu_backward(args, stream);
}

}  // namespace lockstep::ops
