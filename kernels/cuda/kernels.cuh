// The kernels of the CUDA backend, one launcher for each of kernels/table.h: it checks what only
// this backend needs, launches, and checks the launch.
#pragma once

#include "kernels/table.h"

#include <cstddef>
#include <memory>

namespace lockstep::cuda {

#define LOCKSTEP_DECLARE(name, Args) void name(const Args& args, Stream& stream);
LOCKSTEP_KERNELS(LOCKSTEP_DECLARE)
#undef LOCKSTEP_DECLARE

extern const KernelTable kKernels;
// Of the GPU that is current.
std::unique_ptr<KernelContext> create_context();

// Bytes of scratch that each needs. They call nothing of CUDA: plans are made without a driver.
std::size_t column_scratch_bytes(std::int64_t columns);  // norm_backward and gemm's bias_grad
std::size_t embedding_scratch_bytes(std::int64_t rows);
std::size_t grad_norm_scratch_bytes(std::int64_t work_items);

}  // namespace lockstep::cuda
