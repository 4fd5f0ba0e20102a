// Stands in for cuda.cpp in a build without CUDA: no devices, and errors that say how to get them.
#include "device/device.h"

namespace lockstep {
namespace {

constexpr const char* kAbsent =
    "this build has no CUDA; configure it where nvcc is on PATH (-DLOCKSTEP_CUDA=ON), "
    "or use run.device=cpu";

}  // namespace

std::unique_ptr<Device> open_cuda_device(const KernelTable&, ContextFactory, int) {
  fail(ExitCode::kConfig, "{}", kAbsent);
}

int cuda_device_count() { return 0; }

DeviceInfo cuda_device_info(int) { fail(ExitCode::kConfig, "{}", kAbsent); }

std::string cuda_status() { return "CUDA is not in this build"; }

}  // namespace lockstep
