// The arithmetic of a reduction over ranks on the host: always in rank order, element by element,
// so the result depends on nothing but the values; not on timing, piece sizes or the algorithm.
#pragma once

#include "comm/communicator.h"

#include <span>

namespace lockstep {

// out[i] = inputs[0][i] op inputs[1][i] op ..., all of `dtype`. 16-bit floats are
// accumulated in fp32 and rounded once; integer sums wrap. A NaN in any input
// gives NaN, for max and min too. `out` may be one of the inputs.
void reduce_in_rank_order(void* out, std::span<const void* const> inputs, std::int64_t count,
                          DType dtype, ReduceOp op);

}  // namespace lockstep
