// The CUDA backend: binds every kernel, opens the per-device context, and sizes the scratch.
#include "kernels/table.h"

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/check.cuh"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/kernels.cuh"

#include <algorithm>

namespace lockstep::cuda {

Context::Context() {
  int ordinal = 0;
  check(cudaGetDevice(&ordinal), "cudaGetDevice");
  const auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, ordinal), "cudaDeviceGetAttribute");
    return value;
  };
  multiprocessors = attribute(cudaDevAttrMultiProcessorCount);
  shared_per_multiprocessor =
      static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor));
  shared_per_block = static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
}

std::unique_ptr<KernelContext> create_context() { return std::make_unique<Context>(); }

namespace {

std::size_t scratch_bytes(const ScratchQuery& query) {
  const bool attends = query.attention.batch > 0 && query.attention.head_dim > 0;
  return std::max({attends ? attention_scratch_bytes(query.attention, query.dtype) : 0,
                   column_scratch_bytes(query.channels), embedding_scratch_bytes(query.rows),
                   grad_norm_scratch_bytes(query.work_items)});
}

std::size_t workspace_bytes() { return GemmPlanner::kWorkspaceBytes + GemmPlanner::kSpillBytes; }

std::string gemm_plan(const KernelContext& context) {
  return static_cast<const Context&>(context).gemm.text();
}

bool adopt_gemm_plan(KernelContext& context, const std::string& plan) {
  return static_cast<Context&>(context).gemm.adopt(plan);
}

bool search_gemms(KernelContext& context, bool on) {
  static_cast<Context&>(context).gemm.search(on);
  return true;
}

bool allow_tf32(KernelContext& context, bool on) {
  static_cast<Context&>(context).tf32 = on;
  return true;
}

}  // namespace

#define LOCKSTEP_BIND(name, Args) .name = name,
const KernelTable kKernels{.name = "cuda",
                           .scratch_bytes = scratch_bytes,
                           .workspace_bytes = workspace_bytes,
                           .gemm_plan = gemm_plan,
                           .adopt_gemm_plan = adopt_gemm_plan,
                           .search_gemms = search_gemms,
                           .allow_tf32 = allow_tf32,
                           LOCKSTEP_KERNELS(LOCKSTEP_BIND)};
#undef LOCKSTEP_BIND

}  // namespace lockstep::cuda
