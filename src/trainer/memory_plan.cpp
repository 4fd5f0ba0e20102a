// The dry run: the same constructors as training, on an arena that only counts.
#include "trainer/memory_plan.h"

#include "io/checkpoint.h"
#include "nn/model.h"
#include "trainer/accumulation.h"
#include "trainer/batch_upload.h"
#include "trainer/checkpointer.h"
#include "trainer/training_state.h"

namespace lockstep {
namespace {

// CPU and CUDA scratch differ little; the plan is for the device that the run would use.
void allocate_all(const Options& options, std::int64_t micro_batch, Arena& arena) {
  ModelPlan plan;
  plan.dtype = options.precision.dtype;
  plan.batch = micro_batch;
  plan.seq_len = options.model.seq_len;
  plan.head_chunks = options.memory.lm_head_chunks;
  const KernelTable& table =
      cuda_kernels() != nullptr && options.run.device != "cpu" ? *cuda_kernels() : cpu_kernels();
  const auto model = make_model(options.model, plan, arena, &table.scratch_bytes);
  const OptimizerBuffers buffers(model->parameters(), arena);
  const BatchBuffers batch(arena, micro_batch * plan.seq_len);
}

std::size_t total_for(const Options& options, std::int64_t micro_batch) {
  Arena arena(DeviceKind::kCuda);
  allocate_all(options, micro_batch, arena);
  return arena.total_bytes();
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

  Arena arena(DeviceKind::kCuda);
  allocate_all(options, micro_batch, arena);
  for (int group = 0; group < kMemoryGroups; ++group) {
    plan.bytes[static_cast<std::size_t>(group)] = arena.bytes(static_cast<MemoryGroup>(group));
  }
  plan.total = arena.total_bytes();
  const std::int64_t parts = global_batch / world;
  for (std::int64_t candidate = 1; candidate <= parts; ++candidate) {
    if (parts % candidate == 0 && total_for(options, candidate) <= memory_limit) {
      plan.largest_micro_batch = candidate;
    }
  }
  Arena dry(DeviceKind::kCpu);
  const auto model = make_model(options.model, {}, dry, &cpu_kernels().scratch_bytes);
  const std::vector<StateTensor> tensors = state_tensors(model->parameters());
  plan.checkpoint_bytes = checkpoint_bytes(tensors, assign_rows(tensors, world), world);
  return plan;
}

}  // namespace lockstep
