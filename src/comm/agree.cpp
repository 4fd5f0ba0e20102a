// Every rank tells how its step ended; the lowest failure is everybody's.
#include "comm/agree.h"

#include "core/error.h"

#include <algorithm>
#include <new>

namespace lockstep {
namespace {

// What the step came to on one rank.
struct Outcome {
  ExitCode code = ExitCode::kDone;
  std::string message;
};

Outcome outcome_of(const std::function<void()>& step) {
  try {
    step();
    return {};
  } catch (const UserError& error) {
    if (error.code() == ExitCode::kPeer) throw;
    return {error.code(), error.what()};
  } catch (const std::bad_alloc&) {
    return {ExitCode::kConfig, "out of host memory; run fewer ranks on this node"};
  } catch (const std::exception& error) {
    return {ExitCode::kInternal, error.what()};
  }
}

}  // namespace

void agree(World& world, const std::function<void()>& step) {
  const Outcome mine = outcome_of(step);
  const std::vector<ExitCode> codes = world.all_gather_values(mine.code);
  const auto failed = std::find_if(codes.begin(), codes.end(),
                                   [](ExitCode code) { return code != ExitCode::kDone; });
  if (failed == codes.end()) return;
  const int rank = static_cast<int>(failed - codes.begin());
  const std::string message = world.broadcast(mine.message, rank);
  throw CollectiveError(*failed, rank == 0 ? message : fmt::format("rank {}: {}", rank, message));
}

}  // namespace lockstep
