// `lockstep export`.
#pragma once

#include "app/command.h"

namespace lockstep {

Command add_export_command(CLI::App& app);

}  // namespace lockstep
