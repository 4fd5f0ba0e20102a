// `lockstep plan`.
#pragma once

#include "app/command.h"

namespace lockstep {

Command add_plan_command(CLI::App& app);

}  // namespace lockstep
