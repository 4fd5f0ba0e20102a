// `lockstep train`.
#pragma once

#include "app/command.h"

namespace lockstep {

Command add_train_command(CLI::App& app);

}  // namespace lockstep
