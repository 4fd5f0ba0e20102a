// gemm: every matrix product of the project, with the elementwise work that follows it fused in.
#pragma once

#include "device/stream.h"
#include "kernels/table.h"

namespace lockstep::ops {

// out (M, N) = act(scale * op(a) op(b) + bias) + residual, or, with activation_grad,
// act'(preactivation) * scale * op(a) op(b). fp32 accumulation; the GELU is GPT-2's tanh form
// (Hendrycks & Gimpel, arXiv 1606.08415).
//
// Shapes: a (M, K) or, with transpose_a, (K, M); b (K, N) or, with transpose_b, (N, K); bias (N);
// residual, preactivation_out and preactivation (M, N); bias_grad (M). M, N and K are at least 1;
// bias, residual, the preactivations and bias_grad may be absent. preactivation_out receives what
// goes into the activation. bias_grad receives the sums of op(a)'s rows: with a = dy and
// transpose_a, the bias gradient beside dW = dy^T x. b may be a weight: of a plain format.
// Dtypes: a, b and bias share one of fp32, bf16, fp16; out has it too, or fp32; residual and the
// preactivations have out's; bias_grad is fp32. Rows of all matrices may be strided.
// Overwrites out and preactivation_out; accumulates into bias_grad, and into out with accumulate.
// out may be residual or preactivation itself, never a or b.
// scratch: scratch_bytes() of {rows = K, channels = M with bias_grad, else 0; dtype = a's}.
// Throws CheckError when an argument is not as above, when accumulate meets activation,
// activation_grad or residual, or when activation meets activation_grad.
void gemm(const GemmArgs& args, Stream& stream);

}  // namespace lockstep::ops
