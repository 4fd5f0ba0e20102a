// Conversion between the float storage types.
#pragma once

#include "device/stream.h"
#include "kernels/table.h"

namespace lockstep::ops {

// dst = src rounded to nearest even in dst's dtype; any pair of fp32, bf16, fp16; both contiguous
// with the same number of elements, not overlapping. Overwrites dst. Throws CheckError otherwise.
void cast(const Tensor& dst, const Tensor& src, Stream& stream);

}  // namespace lockstep::ops
