// Every two seconds all ranks exchange whether the work is done and whether anybody wants to stop.
#include "app/rank_zero.h"

#include "app/signals.h"

#include <chrono>
#include <exception>

namespace lockstep {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kInterval{2};

struct Vote {
  bool done = false;
  bool stop = false;
};

Vote exchange(World& world, bool done) {
  const auto votes =
      world.all_reduce({done ? 1 : 0, stop_requested() != 0 ? 1 : 0}, ReduceOp::kMax);
  return {votes[0] != 0, votes[1] != 0};
}

[[noreturn]] void fail_stopped() {
  fail(ExitCode::kInterrupted, "interrupted: nothing was written");
}

}  // namespace

void on_rank_zero(World& world,
                  const std::function<void(const std::function<void()>& tick)>& work) {
  std::exception_ptr error;
  if (world.rank() == 0) {
    auto last = Clock::now();
    const auto tick = [&] {
      if (stop_requested() != 0) fail_stopped();
      if (world.size() == 1 || Clock::now() - last < kInterval) return;
      last = Clock::now();
      if (exchange(world, /*done=*/false).stop) fail_stopped();
    };
    try {
      work(tick);
    } catch (...) {
      error = std::current_exception();
    }
    exchange(world, /*done=*/true);
  } else {
    while (!exchange(world, /*done=*/false).done) {
    }
  }
  agree(world, [&] {
    if (error) std::rethrow_exception(error);
  });
}

}  // namespace lockstep
