// `lockstep generate`.
#pragma once

#include "app/command.h"

namespace lockstep {

Command add_generate_command(CLI::App& app);

}  // namespace lockstep
