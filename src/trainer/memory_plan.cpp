// The dry run: the same constructors as training, on an arena that only counts.
#include "trainer/memory_plan.h"

#include "kernels/backend.h"
#include "trainer/accumulation.h"
#include "trainer/state_rows.h"
#include "trainer/training_memory.h"

namespace lockstep {
namespace {

// The plan is for the device that the run would use.
const KernelTable& kernels_of(const Options& options) {
  return *planned_backend(options.run.device).kernels;
}

void plan_into(Arena& arena, Options options, std::int64_t micro_batch) {
  options.train.micro_batch_size = micro_batch;
  allocate_training(arena, options, /*validates=*/!options.data.val.empty(), kernels_of(options),
                    make_model);
}

// The largest divisor of a rank's share that fits; memory grows with the micro-batch.
std::int64_t largest_micro_batch(const Options& options, std::int64_t share, std::size_t limit) {
  std::int64_t largest = 0;
  for (std::int64_t candidate = 1; candidate <= share; ++candidate) {
    if (share % candidate != 0) continue;
    Arena arena(DeviceKind::kCpu);
    try {
      plan_into(arena, options, candidate);
    } catch (const UserError&) {  // beyond any memory
      break;
    }
    if (arena.total_bytes() > limit) break;
    largest = candidate;
  }
  return largest;
}

}  // namespace

MemoryPlan plan_memory(const Options& options, int world, std::size_t memory_limit) {
  MemoryPlan plan;
  const std::int64_t micro_batch = options.train.micro_batch_size;
  const std::int64_t global_batch =
      options.train.global_batch_size > 0 ? options.train.global_batch_size : micro_batch * world;
  plan.parameters = parameter_count(options.model);
  plan.flops_per_token = flops_per_token(options.model);
  plan.accumulation = derive_accumulation(global_batch, micro_batch, world);

  Arena arena(DeviceKind::kCpu);
  plan_into(arena, options, micro_batch);
  for (int group = 0; group < kMemoryGroups; ++group) {
    plan.bytes[static_cast<std::size_t>(group)] = arena.bytes(static_cast<MemoryGroup>(group));
  }
  plan.total = arena.total_bytes();
  plan.largest_micro_batch = largest_micro_batch(options, global_batch / world, memory_limit);
  Arena dry(DeviceKind::kCpu);
  const auto model = make_model(options.model, {}, dry, &kCpuBackend.kernels->scratch_bytes);
  const std::vector<StateTensor> tensors = state_tensors(model->parameters());
  plan.checkpoint_bytes = checkpoint_bytes(tensors, assign_rows(tensors, world), world);
  return plan;
}

}  // namespace lockstep
