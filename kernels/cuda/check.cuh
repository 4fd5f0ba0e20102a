// Turns a CUDA or cuBLASLt status into an exception. The runtime's sticky error is cleared first,
// so that a caller that recovers does not meet the same error again at its next call.
#pragma once

#include "core/error.h"

#include <cublasLt.h>
#include <cuda_runtime.h>

namespace lockstep::cuda {

// `what` names the call or the kernel.
inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) [[likely]]
    return;
  cudaGetLastError();
  throw CheckError(
      fmt::format("{}: {} ({})", what, cudaGetErrorString(status), cudaGetErrorName(status)));
}

inline void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  throw CheckError(fmt::format("{}: {}", what, cublasLtGetStatusName(status)));
}

// After every launch: a bad configuration shows here, a fault at the next synchronisation.
inline void check_launch(const char* kernel) { check(cudaGetLastError(), kernel); }

}  // namespace lockstep::cuda
