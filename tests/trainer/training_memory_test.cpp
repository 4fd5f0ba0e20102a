// What is allocated beside the model: what validation needs, and what kernels take for themselves.
#include "trainer/training_memory.h"

#include "kernels/backend.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

constexpr std::size_t kWorkspace = std::size_t{192} << 20;

// The CPU's kernels, as if they took device memory.
const KernelTable& kernels_with_workspace() {
  const KernelTable& cpu = *kCpuBackend.kernels;
  static const KernelTable table{"greedy",
                                 cpu.scratch_bytes,
                                 *+[] { return kWorkspace; },
                                 cpu.gemm_plan,
                                 cpu.adopt_gemm_plan,
                                 cpu.search_gemms,
                                 cpu.allow_tf32,
#define LOCKSTEP_SAME(name, Args) cpu.name,
                                 LOCKSTEP_KERNELS(LOCKSTEP_SAME)
#undef LOCKSTEP_SAME
  };
  return table;
}

std::size_t bytes(bool validates, const KernelTable& kernels, MemoryGroup group) {
  Options options;
  options.model.preset = "gpt2-tiny";
  resolve(options.model, 256);
  Arena arena(DeviceKind::kCpu);
  allocate_training(arena, options, validates, kernels, make_model);
  return arena.bytes(group);
}

TEST(TrainingMemory, KernelWorkspacesAreCounted) {
  const auto workspace = [](const KernelTable& kernels) {
    return bytes(/*validates=*/false, kernels, MemoryGroup::kWorkspace);
  };
  EXPECT_EQ(workspace(kernels_with_workspace()), workspace(*kCpuBackend.kernels) + kWorkspace);
}

TEST(TrainingMemory, ValidationIsCounted) {
  std::size_t with = 0, without = 0;
  for (int group = 0; group < kMemoryGroups; ++group) {
    with += bytes(true, *kCpuBackend.kernels, static_cast<MemoryGroup>(group));
    without += bytes(false, *kCpuBackend.kernels, static_cast<MemoryGroup>(group));
  }
  EXPECT_GT(with, without);
}

}  // namespace
}  // namespace lockstep
