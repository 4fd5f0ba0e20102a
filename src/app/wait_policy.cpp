// One exec of the same program with the same arguments.
#include "app/wait_policy.h"

#include <unistd.h>

#include <cstdlib>

namespace lockstep {

void prefer_sleeping_threads(char** argv) {
  if (std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr) return;
  if (setenv("OMP_WAIT_POLICY", "passive", /*overwrite=*/0) == 0) execv("/proc/self/exe", argv);
}

}  // namespace lockstep
