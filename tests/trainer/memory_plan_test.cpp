// The plan equals what training really allocates.
#include "trainer/memory_plan.h"

#include "data/fixture.h"
#include "kernels/backend.h"
#include "support/support.h"
#include "trainer/trainer.h"

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
  const test::TempDir scratch;
  const std::string shard = test::write_shard(scratch / "a.bin", std::vector<int>(64 * 20 + 1, 7));
  const auto world = make_self_world();
  const auto communicator = make_self_communicator();
  test::Machine machine = test::open_cpu();
  Log log(1);
  for (const bool validates : {false, true}) {
    Options options = tiny();
    if (validates) options.data.val = {shard};
    const Dataset data({shard}, "train", 64, 256, 1);
    RunPosition position;
    const Trainer trainer({.options = options,
                           .steps = 10,
                           .accumulation = 2,
                           .world = *world,
                           .communicator = *communicator,
                           .device = *machine.device,
                           .log = log,
                           .position = position,
                           .train_data = data,
                           .val_data = validates ? &data : nullptr});
    const MemoryPlan plan = plan_memory(options, /*world=*/2, std::size_t{1} << 40);
    EXPECT_EQ(plan.total, trainer.arena().total_bytes());
    for (int group = 0; group < kMemoryGroups; ++group) {
      EXPECT_EQ(plan.bytes[static_cast<std::size_t>(group)],
                trainer.arena().bytes(static_cast<MemoryGroup>(group)));
    }
    EXPECT_EQ(plan.accumulation, 2);
    EXPECT_EQ(plan.largest_micro_batch, 8);  // everything fits: the rank's whole share
    // fp32 weights and two moments, and a little more for headers.
    EXPECT_GE(plan.checkpoint_bytes, plan.parameters * 12);
    EXPECT_LT(plan.checkpoint_bytes, plan.parameters * 12 + (1 << 20));
  }
}

TEST(MemoryPlan, KernelWorkspacesAreCounted) {
  Arena arena(DeviceKind::kCpu);
  arena.count("workspace", 1000, MemoryGroup::kWorkspace);
  arena.allocate("tensor", {64}, DType::kF32, MemoryGroup::kWeights);
  EXPECT_EQ(arena.bytes(MemoryGroup::kWorkspace), 1000u);
  EXPECT_EQ(arena.total_bytes(), 1256u);
  EXPECT_EQ(kCpuBackend.kernels->workspace_bytes(), 0u);
  if (kCudaBackend.kernels == nullptr) return;
  EXPECT_EQ(kCudaBackend.kernels->workspace_bytes(), std::size_t{192} << 20);
}

TEST(MemoryPlan, SizesBeyondAnyMemoryAreRefused) {
  Options options = tiny();
  options.model.layers = 1024;
  options.model.hidden = 1 << 20;
  options.model.ffn = 1 << 22;
  options.train.micro_batch_size = options.train.global_batch_size = 1 << 20;
  test::expect_error(ExitCode::kConfig, {"any memory"},
                     [&] { plan_memory(options, 1, std::size_t{1} << 40); });
  options.train.micro_batch_size = options.train.global_batch_size = std::int64_t{1} << 40;
  test::expect_error(ExitCode::kConfig, {"train.micro_batch_size", "model.seq_len"},
                     [&] { plan_memory(options, 1, std::size_t{1} << 40); });
}

TEST(MemoryPlan, NothingFitsIntoNothing) {
  EXPECT_EQ(plan_memory(tiny(), 1, /*memory_limit=*/1000).largest_micro_batch, 0);
}

}  // namespace
}  // namespace lockstep
