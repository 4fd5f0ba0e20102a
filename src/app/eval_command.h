// `lockstep eval`.
#pragma once

#include "app/command.h"

namespace lockstep {

Command add_eval_command(CLI::App& app);

}  // namespace lockstep
