// Checks of the step's end.
#include "ops/optimizer.h"

#include "ops/check.h"
#include "ops/scratch.h"

namespace lockstep::ops {
namespace {

void check_rules(const StepRules& rules) {
  CHECK(rules.micro_tokens > 0.0f, "micro_tokens {}", rules.micro_tokens);
  CHECK(rules.clip_grad >= 0.0f, "clip_grad {}", rules.clip_grad);
  CHECK(rules.min_loss_scale > 0.0f && rules.min_loss_scale <= rules.max_loss_scale,
        "loss scale between {} and {}", rules.min_loss_scale, rules.max_loss_scale);
  CHECK(!rules.dynamic_scale || rules.growth_interval > 0, "growth_interval {}",
        rules.growth_interval);
  CHECK(rules.warmup_steps >= 0 && rules.decay_steps >= 0 && rules.total_steps > 0,
        "schedule of {} warm-up, {} decay, {} total updates", rules.warmup_steps, rules.decay_steps,
        rules.total_steps);
}

void check_items(const char* name, const WorkItem* items, std::int64_t count) {
  CHECK(count >= 0 && (count == 0 || items != nullptr), "{}: {} items at {}", name, count,
        static_cast<const void*>(items));
}

}  // namespace

void grad_norm(const GradNormArgs& args, Stream& stream) {
  const std::int64_t parameters = args.grads.count();
  check_vector("grad_norm.sums", args.sums, args.sums.count(), DType::kF64, stream);
  check_vector("grad_norm.grads", args.grads, parameters, DType::kF32, stream);
  check_items("grad_norm", args.items, args.item_count);
  if (args.item_count == 0) return;
  const ScratchQuery query{.attention = {}, .work_items = args.item_count};
  check_scratch("grad_norm.scratch", args.scratch, scratch_bytes(query, stream), stream);
  stream.kernels().grad_norm(args, stream);
}

void step_update(const StepUpdateArgs& args, Stream& stream) {
  CHECK(args.state != nullptr, "step_update needs a state");
  check_vector("step_update.verdict", args.verdict, args.verdict.count(), DType::kF64, stream);
  CHECK(args.segments >= 0 && args.segments + 3 <= args.verdict.count(),
        "{} segments in a verdict of {}", args.segments, args.verdict.count());
  check_rules(args.rules);
  stream.kernels().step_update(args, stream);
}

void adamw(const AdamWArgs& args, Stream& stream) {
  const std::int64_t count = args.master.count();
  check_vector("adamw.master", args.master, count, DType::kF32, stream);
  check_vector("adamw.moment1", args.moment1, count, DType::kF32, stream);
  check_vector("adamw.moment2", args.moment2, count, DType::kF32, stream);
  check_vector("adamw.grads", args.grads, count, DType::kF32, stream);
  if (args.weights) {
    check_storage("adamw.weights", args.weights.dtype);
    check_vector("adamw.weights", args.weights, count, args.weights.dtype, stream);
  }
  check_items("adamw", args.items, args.item_count);
  CHECK(args.state != nullptr, "adamw needs a state");
  if (args.item_count == 0) return;
  stream.kernels().adamw(args, stream);
}

}  // namespace lockstep::ops
