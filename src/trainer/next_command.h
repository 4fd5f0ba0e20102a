// The command that goes on with a run, ready to be pasted into a shell.
#pragma once

#include <string>

namespace lockstep {

// "LAUNCHER lockstep train RUN/config.toml --run.dir=RUN"; `launcher` is "" or ends in a blank.
std::string resume_command(const std::string& run_directory, const std::string& launcher);

}  // namespace lockstep
