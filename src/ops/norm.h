// LayerNorm (Ba et al., arXiv 1607.06450) and RMSNorm (Zhang & Sennrich, arXiv 1910.07467).
#pragma once

#include "device/stream.h"
#include "kernels/table.h"

namespace lockstep::ops {

// With mean, LayerNorm: out = (x - mean) rstd weight + bias, rstd = 1 / sqrt(variance + eps) with
// the biased variance. Without, RMSNorm: out = x rstd weight + bias, rstd = 1 / sqrt(mean of x^2 +
// eps).
//
// Shapes: out and x (N, C); weight and bias (C); mean and rstd (N) fp32; mean and bias may be
// absent. x, out, weight and bias share one of fp32, bf16, fp16. Overwrites out, mean and rstd.
// Throws CheckError otherwise.
void norm_forward(const NormForward& args, Stream& stream);

// dx = residual_grad + the gradient of x, given dy and what forward saved: the residual stream's
// gradient is added in the same pass.
// Shapes: dx, dy and x (N, C); residual_grad (N, C) or absent; weight (C); dweight (C) fp32; dbias
// (C) fp32 or absent; mean, absent for RMSNorm, and rstd (N) fp32. dx, dy, x, residual_grad and
// weight share one of fp32, bf16, fp16. Overwrites dx, which may be residual_grad itself;
// accumulates into dweight and dbias.
// scratch: scratch_bytes() of {rows = N, channels = C, dtype = x's}.
// Throws CheckError when an argument is not as above.
void norm_backward(const NormBackward& args, Stream& stream);

}  // namespace lockstep::ops
