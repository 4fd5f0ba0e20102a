// What the CUDA backend keeps per device: the card's limits and the matrix multiplier.
// Made once, by create_context, when the device is current; used by one host thread.
#pragma once

#include "kernels/cuda/gemm_plan.cuh"

#include "device/stream.h"

#include <cuda_runtime.h>

#include <cstddef>

namespace lockstep::cuda {

struct Context : KernelContext {
  int multiprocessors = 0;
  std::size_t shared_per_multiprocessor = 0;
  std::size_t shared_per_block = 0;  // the most one block may ask for
  bool tf32 = false;                 // fp32 operands may be rounded to TF32
  GemmPlanner gemm;

  Context();
};

inline Context& context_of(Stream& stream) { return static_cast<Context&>(stream.context()); }
inline cudaStream_t native(Stream& stream) { return static_cast<cudaStream_t>(stream.native()); }

}  // namespace lockstep::cuda
