// Parsing of the program's command line, with answers to what is not known: unknown commands, flags
// and configuration keys are errors that name the nearest valid one.
#pragma once

#include "app/command.h"

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace lockstep {

// Returns the command to run, or null when --help or --version was answered (by rank 0 only).
// Throws UserError: kConfig for an unknown --section.key of a command that takes keys, kUsage for
// everything else.
const Command* parse_command_line(CLI::App& app, const std::vector<Command>& commands, int argc,
                                  const char* const* argv);

// A flag that names shards, as a list key of the configuration does: its items are separated by
// commas ("\," is one inside a name) or repeated.
void add_list_option(CLI::App& parser, const std::string& flag, std::vector<std::string>& target,
                     const std::string& help);

}  // namespace lockstep
