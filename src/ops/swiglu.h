// SwiGLU, the gated feed-forward of Llama and Qwen2 (Shazeer, arXiv 2002.05202).
#pragma once

#include "device/stream.h"
#include "kernels/table.h"

namespace lockstep::ops {

// out (N, F) = silu(gate) * up, gate and up being the halves of each row of gate_up (N, 2F).
// Both share one of fp32, bf16, fp16. Overwrites out. Throws CheckError otherwise.
void swiglu_forward(const SwigluForward& args, Stream& stream);

// dgate_up (N, 2F) from dout (N, F) and gate_up (N, 2F). Overwrites dgate_up, which may be gate_up
// itself. Throws CheckError when an argument is not as above.
void swiglu_backward(const SwigluBackward& args, Stream& stream);

}  // namespace lockstep::ops
