// Parsing of the program's command line, with answers to what is not known: unknown commands, flags
// and configuration keys are errors that name the nearest valid one.
#pragma once

#include "app/command.h"

#include <vector>

namespace lockstep {

// Returns the command to run, or null when --help or --version was answered (by rank 0 only).
// Throws UserError: kConfig for an unknown --section.key of a command that takes keys, kUsage for
// everything else.
const Command* parse_command_line(ProgramFlags& program, const std::vector<Command>& commands,
                                  int argc, const char* const* argv);

}  // namespace lockstep
