// Checks of gemm.
#include "ops/gemm.h"

#include "ops/check.h"
#include "ops/scratch.h"

namespace lockstep::ops {
namespace {

void check_modes(const GemmArgs& args) {
  const bool forward = args.activation != Activation::kNone;
  const bool backward = args.activation_grad != Activation::kNone;
  CHECK(!(forward && backward), "gemm: activation and activation_grad exclude each other");
  CHECK(!args.accumulate || (!forward && !backward && !args.residual),
        "gemm: accumulate excludes activation, activation_grad and residual");
  CHECK(!args.preactivation_out || forward, "gemm: preactivation_out needs an activation");
  CHECK(!backward || args.preactivation, "gemm: activation_grad needs preactivation");
}

void check_optional(const char* name, const Tensor& tensor, const Tensor& like,
                    const Stream& stream) {
  if (!tensor) return;
  check_matrix(name, tensor, like.rows(), like.cols(), like.dtype, stream, Layout::kStridedRows);
}

}  // namespace

void gemm(const GemmArgs& args, Stream& stream) {
  const DType dtype = args.a.dtype;
  const std::int64_t M = args.out.rows();
  const std::int64_t N = args.out.cols();
  const std::int64_t K = args.transpose_a ? args.a.rows() : args.a.cols();
  check_storage("gemm.a", dtype);
  check_format("gemm.b", args.b);
  CHECK(args.out.dtype == dtype || args.out.dtype == DType::kF32, "gemm.out is {} with {} operands",
        name_of(args.out.dtype), name_of(dtype));
  const auto matrix = [&](const char* name, const Tensor& tensor, std::int64_t rows,
                          std::int64_t cols, DType type) {
    check_matrix(name, tensor, rows, cols, type, stream, Layout::kStridedRows);
  };
  matrix("gemm.out", args.out, M, N, args.out.dtype);
  matrix("gemm.a", args.a, args.transpose_a ? K : M, args.transpose_a ? M : K, dtype);
  matrix("gemm.b", args.b.data, args.transpose_b ? N : K, args.transpose_b ? K : N, dtype);
  check_modes(args);
  if (args.bias) check_vector("gemm.bias", args.bias, N, dtype, stream);
  if (args.bias_grad) check_vector("gemm.bias_grad", args.bias_grad, M, DType::kF32, stream);
  check_optional("gemm.residual", args.residual, args.out, stream);
  check_optional("gemm.preactivation_out", args.preactivation_out, args.out, stream);
  check_optional("gemm.preactivation", args.preactivation, args.out, stream);
  // Only the bias gradient needs scratch.
  const ScratchQuery query{.attention = {},
                           .rows = args.bias_grad ? K : 0,
                           .channels = args.bias_grad ? M : 0,
                           .dtype = dtype};
  check_scratch("gemm.scratch", args.scratch, scratch_bytes(query, stream), stream);
  stream.kernels().gemm(args, stream);
}

}  // namespace lockstep::ops
