// Scratch: the working memory that the caller of some ops provides, so that no kernel allocates.
// One buffer may serve every op of a stream, in turn; two streams need two.
#pragma once

#include "device/stream.h"
#include "kernels/table.h"

#include <cstddef>

namespace lockstep::ops {

// Bytes that suffice for every op whose sizes are at most the query's. Never decreases when a size
// grows, so the query of the largest micro-batch covers all calls of a run. Needs no device.
std::size_t scratch_bytes(const ScratchQuery& query, const KernelTable& kernels);
std::size_t scratch_bytes(const ScratchQuery& query, const Stream& stream);

}  // namespace lockstep::ops
