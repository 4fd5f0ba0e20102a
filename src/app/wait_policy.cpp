// One exec of the same program with the same arguments.
#include "app/wait_policy.h"

#include "app/signals.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace lockstep {

void prefer_sleeping_threads(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  // By its real path, so that the process keeps its name in ps and pkill.
  std::error_code error;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe", error).string();
  if (error || setenv("OMP_WAIT_POLICY", "passive", /*overwrite=*/0) != 0) return;
  hold_signals();  // exec takes the handlers away, not what is held
  execv(self.c_str(), argv);
}

}  // namespace lockstep
