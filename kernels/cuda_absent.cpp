// Linked in place of kernels/cuda when the build has no CUDA: no devices, and errors that say how
// to get them.
#include "core/error.h"
#include "kernels/backend.h"

namespace lockstep {
namespace {

[[noreturn]] void refuse() {
  fail(ExitCode::kConfig,
       "this build has no CUDA; configure it where nvcc is on PATH (-DLOCKSTEP_CUDA=ON), or use "
       "run.device=cpu");
}

}  // namespace

const Backend kCudaBackend{.name = "cuda",
                           .library = "CUDA",
                           .kernels = nullptr,
                           .count = [] { return 0; },
                           .info = [](int) -> DeviceInfo { refuse(); },
                           .status = [] { return std::string("CUDA is not in this build"); },
                           .open = [](int, int) -> std::unique_ptr<Device> { refuse(); }};

}  // namespace lockstep
