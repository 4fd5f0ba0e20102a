// The kernels of the CPU backend, one function for each of kernels/table.h.
// Work is split by shape alone, never by the number of threads, and every sum has one fixed order.
#pragma once

#include "kernels/table.h"

#include <memory>

namespace lockstep::cpu {

#define LOCKSTEP_DECLARE(name, Args) void name(const Args& args, Stream& stream);
LOCKSTEP_KERNELS(LOCKSTEP_DECLARE)
#undef LOCKSTEP_DECLARE

extern const KernelTable kKernels;
std::unique_ptr<KernelContext> create_context();

// Bytes of scratch that norm_backward takes.
std::size_t norm_scratch_bytes(std::int64_t rows, std::int64_t channels);

}  // namespace lockstep::cpu
