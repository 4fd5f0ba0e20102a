// `lockstep doctor`.
#pragma once

#include "app/command.h"

namespace lockstep {

Command add_doctor_command(CLI::App& app);

}  // namespace lockstep
