// The parts of the gemm op: the product as cuBLASLt takes it, the way around cuBLASLt when it lacks
// an epilogue, and the bias gradient.
#pragma once

#include "kernels/cuda/gemm_plan.cuh"
#include "kernels/table.h"

namespace lockstep::cuda {

// out = scale * op(a) op(b) as cuBLASLt sees it, without epilogue or C. tf32: fp32 operands may be
// rounded to TF32.
Matmul as_matmul(const Tensor& out, const GemmArgs& args, bool tf32);

// GELU's derivative on an fp32 product, which goes straight to args.out. False, with nothing done,
// for other arguments, and when cuBLASLt lacks the product.
bool gemm_gelu_grad(const GemmArgs& args, Stream& stream);

// Any combination of GemmArgs but bias_grad: the product goes to fp32 spill memory in row chunks,
// and one kernel applies the whole epilogue to each chunk with a single rounding.
void gemm_unfused(const GemmArgs& args, Stream& stream);

// args.bias_grad[m] += sum over k of op(a)[m, k].
void bias_grad(const GemmArgs& args, Stream& stream);

}  // namespace lockstep::cuda
