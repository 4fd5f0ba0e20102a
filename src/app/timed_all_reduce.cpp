// Host clock around enqueue and synchronize: what a step that waits for the reduction would see.
#include "app/timed_all_reduce.h"

#include "device/arena.h"

#include <algorithm>
#include <chrono>

namespace lockstep {

AllReduceTiming time_all_reduce(Session& session, std::int64_t bytes, int rounds) {
  Arena arena(*session.device);
  Stream stream(*session.device, "all-reduce");
  const std::int64_t count = std::max<std::int64_t>(1, bytes / 4);
  const Tensor buffer = arena.allocate("all-reduce", {count}, DType::kF32, MemoryGroup::kBuckets);
  const AbortOnError abort_first(*session.communicator);
  std::vector<double> times;
  for (int round = 0; round <= rounds; ++round) {
    session.world->barrier();
    const auto begin = std::chrono::steady_clock::now();
    session.communicator->all_reduce(TypedSpan(buffer), ReduceOp::kSum, stream);
    stream.synchronize();
    const std::chrono::duration<double, std::milli> ms = std::chrono::steady_clock::now() - begin;
    if (round > 0) times.push_back(ms.count());
  }
  std::sort(times.begin(), times.end());
  AllReduceTiming timing;
  timing.bytes = count * 4;
  timing.ms = times[times.size() / 2];
  timing.min_ms = times.front();
  timing.max_ms = times.back();
  timing.gigabytes_per_second = static_cast<double>(timing.bytes) / timing.ms * 1e-6;
  const double ranks = session.world->size();
  timing.bus_gigabytes_per_second = timing.gigabytes_per_second * 2.0 * (ranks - 1.0) / ranks;
  return timing;
}

}  // namespace lockstep
