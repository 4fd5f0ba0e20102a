// Rounding to int8 steps per row: what dynamic int8 inference computes with.
#pragma once

#include "device/stream.h"
#include "kernels/table.h"

namespace lockstep::ops {

// out (N, C) = x with every row rounded to multiples of max|row| / 127.5 from -128 to 127. Both
// share one of fp32, bf16, fp16; rows may be strided; out may be x itself, else they must not
// overlap. Overwrites out. Throws CheckError otherwise.
void round_rows(const RoundRows& args, Stream& stream);

}  // namespace lockstep::ops
