// `lockstep bench`: times what a run is made of.
#pragma once

#include "app/command.h"

namespace lockstep {

Command add_bench_command(CLI::App& app);

}  // namespace lockstep
