// The order is that of the plan's table: model, optimizer, batches, what libraries take.
#include "trainer/training_memory.h"

namespace lockstep {

TrainingMemory allocate_training(Arena& arena, const Options& options, bool validates,
                                 const KernelTable& kernels, const ModelFactory& make) {
  const ModelPlan plan = {.dtype = options.precision.dtype,
                          .batch = options.train.micro_batch_size,
                          .seq_len = options.model.seq_len,
                          .head_chunks = options.memory.lm_head_chunks};
  constexpr std::int64_t kMostRows = 0x7fffffff;  // kernels count rows in 31 bits
  std::int64_t rows = 0;
  if (__builtin_mul_overflow(plan.batch, plan.seq_len, &rows) || rows > kMostRows) {
    fail(ExitCode::kConfig,
         "train.micro_batch_size {} x model.seq_len {} are more than {} tokens in one pass; lower "
         "either",
         plan.batch, plan.seq_len, kMostRows);
  }
  auto model = make(options.model, plan, arena, &kernels.scratch_bytes);
  OptimizerBuffers optimizer(model->parameters(), arena);
  const DeviceBatch batch = allocate_batch(arena, model->batch_shape(), rows);
  std::optional<EvalBuffers> eval;
  if (validates) eval.emplace(arena, plan.batch, plan.seq_len);
  arena.count("kernel workspaces", kernels.workspace_bytes(), MemoryGroup::kWorkspace);
  return {std::move(model), std::move(optimizer), batch, eval};
}

}  // namespace lockstep
