// How far one model's predictions are from another's, token by token.
#pragma once

#include "device/stream.h"
#include "kernels/table.h"

namespace lockstep::ops {

// With p = softmax(logits[r]) and q = softmax(reference[r]) over the first `vocab` columns:
// losses[r] = -log p[targets[r]], reference_losses[r] = -log q[targets[r]], and divergences[r] =
// sum q (log q - log p), the Kullback-Leibler divergence in nats of what the reference expects;
// verdicts[r] = DivergenceArgs' bits. In a row whose target is below 0 all are 0.
//
// Shapes: logits (N, Vp) and reference (N, Vr), each fp32, bf16 or fp16, both of at least `vocab`
// columns; targets (N) int32, each below vocab; losses, reference_losses and divergences (N) fp32;
// verdicts (N) uint8. Overwrites the last four. Throws CheckError when an argument is not as above.
void divergence(const DivergenceArgs& args, Stream& stream);

}  // namespace lockstep::ops
