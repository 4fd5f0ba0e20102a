// Rotary position embedding (Su et al., arXiv 2104.09864) in Hugging Face's half-split order.
#pragma once

#include "device/stream.h"
#include "kernels/table.h"

namespace lockstep::ops {

// Rotates, in place, pairs (i, i + D/2) of every head of x (N, heads*D) by the angle of the row's
// position: positions[r] where those are given, else position_offset + r % seq_len; inverse rotates
// back, which is the gradient.
// table (P, D) fp32: D/2 cosines, then D/2 sines, per position. positions (N) int32, each in
// [0, P): the caller has checked them. Without them N is a multiple of seq_len, and
// position_offset + seq_len <= P. x is fp32, bf16 or fp16, and its rows may be strided (q and k of
// a packed qkv rotate in one call). D is even. Throws CheckError when an argument is not as above.
void rope(const RopeArgs& args, Stream& stream);

}  // namespace lockstep::ops
