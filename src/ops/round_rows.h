// Rounding to int8 steps per row: what dynamic int8 inference computes with.
#pragma once

#include "device/stream.h"
#include "kernels/table.h"

namespace lockstep::ops {

// out (N, C) = x with every row rounded to int8 steps of its own and back, in fp32, then to
// storage: s = max|row| / 127.5, out = s * clamp(rint(x / s), -128, 127). A row of zeros stays
// zero; NaN stays NaN. Both share one of fp32, bf16, fp16; rows may be strided; out may be x
// itself, else they must not overlap. Overwrites out. Throws CheckError otherwise.
void round_rows(const RoundRows& args, Stream& stream);

}  // namespace lockstep::ops
