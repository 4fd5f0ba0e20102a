// The saved configuration, told again where the run is: the directory may have been moved.
#include "trainer/next_command.h"

#include "core/shell_quote.h"

namespace lockstep {

std::string resume_command(const std::string& run_directory, const std::string& launcher) {
  return launcher + "lockstep train " + shell_path(run_directory + "/config.toml") + " " +
         shell_word("--run.dir=" + run_directory);
}

}  // namespace lockstep
