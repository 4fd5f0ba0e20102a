// The end of a step, all on the device: gradient norm, the step's decision, and the update.
#pragma once

#include "device/stream.h"
#include "kernels/table.h"

namespace lockstep::ops {

// sums[s] = sum of grad^2 over segment s's items, in item order; not finite if any element is not.
// sums (segments) fp64: segments with an item are overwritten, the others left alone. grads: the
// flat fp32 gradient that the items index. items: item_count of them in device memory, ordered by
// segment (0 items: nothing happens). scratch: scratch_bytes() of {work_items = item_count}.
// Throws CheckError when an argument is not as above.
void grad_norm(const GradNormArgs& args, Stream& stream);

// Turns the all-reduced sums of a step into its decision (kernels/step_rules.h): norm, clipping,
// finite or not, loss scale of the next step, updates, learning rate. verdict (segments + 3 or
// more) fp64: segment sums, loss sum, valid tokens, correct. state is in device memory, in and out.
// Throws CheckError when an argument or a rule makes no sense.
void step_update(const StepUpdateArgs& args, Stream& stream);

// AdamW with decoupled decay (Loshchilov & Hutter, arXiv 1711.05101), bias-corrected by
// state->updates: w -= lr (m^ / (sqrt(v^) + eps) + weight_decay w), the decay on items that ask for
// it. master, moment1, moment2 and grads: flat fp32 of one size; weights: the same size in bf16 or
// fp16, or absent in fp32. Updates master and moments, overwrites weights, zeroes grads; when
// state->finite is 0 it only zeroes grads. Throws CheckError when an argument is not as above.
void adamw(const AdamWArgs& args, Stream& stream);

}  // namespace lockstep::ops
