// At most one exec of the same program with the same arguments.
#include "app/library_settings.h"

#include "app/signals.h"
#include "kernels/backend.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace lockstep {
namespace {

bool is_set(const char* variable) { return std::getenv(variable) != nullptr; }

// OpenBLAS's name for the newest kernels that this processor runs; null where the library has
// recognized it. Prescott is what the library takes for an unknown one.
const char* better_blas_kernels() {
#if defined(__x86_64__)
  if (cpu_library_kernels() != "Prescott") return nullptr;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    return "SkylakeX";
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "Haswell";
#endif
  return nullptr;
}

bool set_default(const char* variable, const char* value) {
  return setenv(variable, value, /*overwrite=*/0) == 0;
}

}  // namespace

void prefer_good_library_settings(char** argv) {
  const bool wait = !is_set("OMP_WAIT_POLICY") && !is_set("GOMP_SPINCOUNT");
  const char* kernels = is_set("OPENBLAS_CORETYPE") ? nullptr : better_blas_kernels();
  if (!wait && kernels == nullptr) return;
  // By its real path, so that the process keeps its name in ps and pkill.
  std::error_code error;
  const std::string self = std::filesystem::read_symlink("/proc/self/exe", error).string();
  if (error) return;
  if (wait && !set_default("OMP_WAIT_POLICY", "passive")) return;
  if (kernels != nullptr && !set_default("OPENBLAS_CORETYPE", kernels)) return;
  hold_signals();  // exec takes the handlers away, not what is held
  execv(self.c_str(), argv);
}

}  // namespace lockstep
