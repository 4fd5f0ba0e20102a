// `lockstep inspect`.
#pragma once

#include "app/command.h"

namespace lockstep {

Command add_inspect_command(CLI::App& app);

}  // namespace lockstep
