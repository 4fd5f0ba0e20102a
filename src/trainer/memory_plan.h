// What a configuration will need, computed without a device by allocating into a dry arena exactly
// what training allocates.
#pragma once

#include "device/arena.h"
#include "trainer/options.h"

#include <array>
#include <cstdint>

namespace lockstep {

struct MemoryPlan {
  std::int64_t parameters = 0;
  double flops_per_token = 0.0;
  std::int64_t accumulation = 1;
  std::int64_t largest_micro_batch =
      0;  // that fits `memory_limit` and divides the global batch; 0: none
  std::int64_t checkpoint_bytes = 0;
  std::array<std::size_t, kMemoryGroups> bytes{};  // by MemoryGroup, for one rank
  std::size_t total = 0;
};

// `options` must be resolved (model shapes, global batch). memory_limit in bytes per rank.
MemoryPlan plan_memory(const Options& options, int world, std::size_t memory_limit);

}  // namespace lockstep
