// `lockstep prepare`.
#pragma once

#include "app/command.h"

namespace lockstep {

Command add_prepare_command(CLI::App& app);

}  // namespace lockstep
