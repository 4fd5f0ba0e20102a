// Scratch sizes come from the backend; this only passes the question on.
#include "ops/scratch.h"

namespace lockstep::ops {

std::size_t scratch_bytes(const ScratchQuery& query, const KernelTable& kernels) {
  return kernels.scratch_bytes(query);
}

std::size_t scratch_bytes(const ScratchQuery& query, const Stream& stream) {
  return scratch_bytes(query, stream.kernels());
}

}  // namespace lockstep::ops
