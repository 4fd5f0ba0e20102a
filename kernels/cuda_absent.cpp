// Linked in place of kernels/cuda when the build has no CUDA.
#include "kernels/table.h"

namespace lockstep {

const KernelTable* cuda_kernels() { return nullptr; }

}  // namespace lockstep
