// What main() knows about a subcommand. Each one lives in its own file, adds its flags to the
// program's and says what to run once the command line has been parsed.
#pragma once

#include "app/flags.h"

#include <functional>

namespace lockstep {

class ConfigRegistry;
class MpiSession;

struct Command {
  CommandFlags flags;
  // Returns the exit code. MPI is up only if the command starts it.
  std::function<int(MpiSession&)> run;
  // The keys it takes as --section.key=value, so that an unknown one can be answered; may be null.
  const ConfigRegistry* registry = nullptr;
  // It polls stop_requested() and ends in order; otherwise a signal ends the process at once.
  bool polls_signals = false;
  // Losing standard output must not end it (training); otherwise that is an I/O error.
  bool outlives_output = false;
};

}  // namespace lockstep
