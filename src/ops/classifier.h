// The training loss: softmax and cross-entropy in one pass over the logits, and its sums.
#pragma once

#include "device/stream.h"
#include "kernels/table.h"

namespace lockstep::ops {

// losses[r] = log(sum exp(logits[r])) - logits[r][targets[r]] over the first `vocab` columns.
// Columns beyond are padding: they never count and their gradient is 0. A target below 0 is masked:
// loss 0, not correct, gradient 0. correct[r] = 1 when the target is the first largest logit.
//
// Shapes: logits (N, Vp), fp32, bf16 or fp16; losses (N) fp32; correct (N) uint8 or absent; targets
// (N) int32, each below vocab; vocab <= Vp. Overwrites losses and correct, and, with
// write_gradient, logits by dloss/dlogits * state->grad_seed; without it logits are only read.
// Throws CheckError when an argument is not as above.
void classifier(const ClassifierArgs& args, Stream& stream);

// totals[0] += sum of losses, totals[1] += targets that are not masked, totals[2] += correct.
// Shapes: totals (3) fp64, accumulates; losses (N) fp32; correct (N) uint8 or absent; targets (N)
// int32. Throws CheckError when an argument is not as above.
void loss_totals(const LossTotals& args, Stream& stream);

}  // namespace lockstep::ops
