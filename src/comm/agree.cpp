// Every rank tells how its step ended; the lowest failure is everybody's.
#include "comm/agree.h"

#include "core/error.h"

#include <new>

namespace lockstep {
namespace {

// What one rank reports, as "code message"; "0" is success.
std::string outcome_of(const std::function<void()>& step) {
  const auto report = [](ExitCode code, const char* message) {
    return fmt::format("{} {}", static_cast<int>(code), message);
  };
  try {
    step();
    return "0";
  } catch (const UserError& error) {
    if (error.code() == ExitCode::kPeer) throw;
    return report(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return report(ExitCode::kConfig, "out of host memory; run fewer ranks on this node");
  } catch (const std::exception& error) {
    return report(ExitCode::kInternal, error.what());
  }
}

}  // namespace

void agree(World& world, const std::function<void()>& step) {
  const std::vector<std::string> outcomes = world.all_gather(outcome_of(step));
  for (std::size_t rank = 0; rank < outcomes.size(); ++rank) {
    const std::string& outcome = outcomes[rank];
    if (outcome == "0") continue;
    const std::size_t space = outcome.find(' ');
    const auto code = static_cast<ExitCode>(std::stoi(outcome.substr(0, space)));
    const std::string message = outcome.substr(space + 1);
    throw CollectiveError(code, rank == 0 ? message : fmt::format("rank {}: {}", rank, message));
  }
}

}  // namespace lockstep
