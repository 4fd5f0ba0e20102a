// The CPU backend: binds every kernel, and holds the per-thread buffers they work in.
// OpenBLAS is switched to one thread; parallelism is OpenMP's, over tiles that the kernels choose.
#include "kernels/table.h"

#include "kernels/cpu/context.h"
#include "kernels/cpu/kernels.h"

#include <cblas.h>
#include <omp.h>

namespace lockstep::cpu {

void CpuContext::reserve_per_thread(std::int64_t floats) {
  const auto threads = static_cast<std::size_t>(omp_get_max_threads());
  if (buffers_.size() < threads) buffers_.resize(threads);
  for (FloatBuffer& buffer : buffers_) buffer.reserve(floats);
}

float* CpuContext::thread_buffer() {
  return buffers_[static_cast<std::size_t>(omp_get_thread_num())].reserve(0);
}

double* CpuContext::item_sums(std::int64_t count) {
  if (item_sums_.size() < static_cast<std::size_t>(count)) {
    item_sums_.resize(static_cast<std::size_t>(count));
  }
  return item_sums_.data();
}

std::unique_ptr<KernelContext> create_context() {
  openblas_set_num_threads(1);
  return std::make_unique<CpuContext>();
}

namespace {

std::size_t scratch_bytes(const ScratchQuery& query) {
  return norm_scratch_bytes(query.rows, query.channels);
}

std::size_t workspace_bytes() { return 0; }

// The library's version and the kernels it picked for this processor decide the sums' rounding.
std::string gemm_plan(const KernelContext& /*context*/) {
  return std::string("cpu tiles-1 ") + openblas_get_config() + " " + openblas_get_corename();
}

bool adopt_gemm_plan(KernelContext& context, const std::string& plan) {
  return plan == gemm_plan(context);
}

bool search_gemms(KernelContext& /*context*/, bool /*on*/) { return false; }
bool allow_tf32(KernelContext& /*context*/, bool /*on*/) { return false; }

}  // namespace

#define LOCKSTEP_BIND(name, Args) .name = name,
const KernelTable kKernels{.name = "cpu",
                           .scratch_bytes = scratch_bytes,
                           .workspace_bytes = workspace_bytes,
                           .gemm_plan = gemm_plan,
                           .adopt_gemm_plan = adopt_gemm_plan,
                           .search_gemms = search_gemms,
                           .allow_tf32 = allow_tf32,
                           LOCKSTEP_KERNELS(LOCKSTEP_BIND)};
#undef LOCKSTEP_BIND

}  // namespace lockstep::cpu
