// The plan equals what training really allocates.
#include "trainer/memory_plan.h"

#include "support/support.h"
#include "trainer/batch_upload.h"
#include "trainer/training_state.h"

namespace lockstep {
namespace {

Options tiny() {
  Options options;
  options.run.device = "cpu";
  options.model.preset = "gpt2-tiny";
  options.train.micro_batch_size = 4;
  options.train.global_batch_size = 16;
  resolve(options.model, 256);
  return options;
}

TEST(MemoryPlan, CountsWhatTrainingAllocates) {
  const Options options = tiny();
  const MemoryPlan plan = plan_memory(options, /*world=*/2, std::size_t{1} << 40);
  test::Machine machine = test::open_cpu();
  Arena arena(*machine.device);
  const auto model = make_model(options.model, {.batch = 4, .seq_len = 64}, arena,
                                &machine.device->kernels().scratch_bytes);
  const TrainingState state(*model, options, 10, 0, 2, arena, *machine.stream);
  const BatchBuffers batch(arena, 4 * 64);
  EXPECT_EQ(plan.total, arena.total_bytes());
  for (int group = 0; group < kMemoryGroups; ++group) {
    EXPECT_EQ(plan.bytes[static_cast<std::size_t>(group)],
              arena.bytes(static_cast<MemoryGroup>(group)));
  }
  EXPECT_EQ(plan.parameters, model->parameters().logical_count());
  EXPECT_EQ(plan.accumulation, 2);
  EXPECT_EQ(plan.largest_micro_batch, 8);  // everything fits: the rank's whole share
  // fp32 weights and two moments, and a little more for headers.
  EXPECT_GE(plan.checkpoint_bytes, plan.parameters * 12);
  EXPECT_LT(plan.checkpoint_bytes, plan.parameters * 12 + (1 << 20));
}

TEST(MemoryPlan, NothingFitsIntoNothing) {
  EXPECT_EQ(plan_memory(tiny(), 1, /*memory_limit=*/1000).largest_micro_batch, 0);
}

}  // namespace
}  // namespace lockstep
