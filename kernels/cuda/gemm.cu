// gemm: out = act(scale * op(a) op(b) + bias) + residual and its relatives, on cuBLASLt.
// A row-major matrix is the transpose of a column-major one, so out = a b is computed as
// out^T = b^T a^T: cuBLASLt's A is our b, its B is our a, its rows are our columns, and a bias over
// our columns is the bias over rows that its epilogues know.
//
// Bytes moved per call: the operands, the output, and the epilogue's matrices, once each.
#include "kernels/cuda/check.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/gemm_parts.cuh"
#include "kernels/cuda/kernels.cuh"
#include "kernels/cuda/vec.cuh"

#include <algorithm>
#include <optional>

namespace lockstep::cuda {
namespace {

std::int64_t cuda_type(DType dtype) {
  switch (dtype) {
    case DType::kF32: return CUDA_R_32F;
    case DType::kBF16: return CUDA_R_16BF;
    case DType::kF16: return CUDA_R_16F;
    default: CHECK(false, "gemm takes fp32, bf16 and fp16, not {}", name_of(dtype));
  }
  return 0;
}

// The largest power of two that divides the address, at most 256.
std::int64_t alignment(const void* data) {
  const auto address = reinterpret_cast<std::uintptr_t>(data) | 256u;
  return static_cast<std::int64_t>(address & (~address + 1u));
}

bool aligned_vector(const Tensor& bias, DType out) {
  return bias.dtype == out && starts_on_16(bias);
}

// The library's epilogue for these arguments, if it has one with the same meaning. Its activations
// come after C is added and its bias has the output's type, so some combinations have none.
std::optional<cublasLtEpilogue_t> library_epilogue(const GemmArgs& args) {
  const bool adds = args.accumulate || args.residual;
  if (args.bias && !aligned_vector(args.bias, args.out.dtype)) return std::nullopt;
  if (args.activation_grad == Activation::kGelu) {
    // For fp32 the library adds a pass of its own, at half the speed of gemm_gelu_grad's.
    if (args.out.dtype == DType::kF32) return std::nullopt;
    const bool plain = !adds && !args.bias && args.activation == Activation::kNone;
    if (!plain || !fits_vectors(args.preactivation)) return std::nullopt;
    return CUBLASLT_EPILOGUE_DGELU;
  }
  if (args.activation == Activation::kGelu) {
    if (adds || !fits_vectors(args.preactivation_out)) return std::nullopt;
    if (args.preactivation_out) {
      return args.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    }
    return args.bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
  }
  if (args.preactivation_out || (args.accumulate && args.residual)) return std::nullopt;
  return args.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

void set_epilogue(Matmul& call, const GemmArgs& args, cublasLtEpilogue_t epilogue) {
  call.key.epilogue = epilogue;
  if (args.bias) call.bias = args.bias.data;
  const Tensor& aux =
      args.activation_grad != Activation::kNone ? args.preactivation : args.preactivation_out;
  if (aux) {
    call.aux = aux.data;
    call.key.ld_aux = aux.row_stride;
  }
  if (!args.accumulate && !args.residual) return;
  const Tensor& added = args.accumulate ? args.out : args.residual;
  call.beta = 1.0f;
  call.c = added.data;
  call.key.ldc = added.row_stride;
  call.key.align_c = alignment(added.data);
  call.key.has_c = added.data == args.out.data ? 2 : 1;
}

}  // namespace

Matmul as_matmul(const Tensor& out, const GemmArgs& args, bool tf32) {
  Matmul call;
  call.a = args.b.data.data;
  call.b = args.a.data;
  call.d = out.data;
  call.alpha = args.scale;
  GemmKey& key = call.key;
  key.m = out.cols();
  key.n = out.rows();
  key.k = args.transpose_a ? args.a.rows() : args.a.cols();
  key.transpose_a = args.transpose_b ? 1 : 0;
  key.transpose_b = args.transpose_a ? 1 : 0;
  key.lda = args.b.data.row_stride;
  key.ldb = args.a.row_stride;
  key.ldd = out.row_stride;
  key.ldc = out.row_stride;
  key.in_type = cuda_type(args.a.dtype);
  key.out_type = cuda_type(out.dtype);
  key.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  key.align_a = alignment(args.b.data.data);
  key.align_b = alignment(args.a.data);
  key.align_d = alignment(out.data);
  key.align_c = key.align_d;
  key.tf32 = tf32 && args.a.dtype == DType::kF32 ? 1 : 0;
  return call;
}

void gemm(const GemmArgs& args, Stream& stream) {
  if (args.out.count() != 0) {
    const std::optional<cublasLtEpilogue_t> epilogue = library_epilogue(args);
    bool done = false;
    if (epilogue) {
      Matmul call = as_matmul(args.out, args, context_of(stream).tf32);
      set_epilogue(call, args, *epilogue);
      done = call.key.k > 0 && context_of(stream).gemm.run(call, native(stream));
    }
    if (!done) done = gemm_gelu_grad(args, stream);
    if (!done) gemm_unfused(args, stream);
  }
  if (args.bias_grad) bias_grad(args, stream);
}

}  // namespace lockstep::cuda
