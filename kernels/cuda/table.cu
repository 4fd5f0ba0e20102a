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

namespace {

std::unique_ptr<KernelContext> create_context() { return std::make_unique<Context>(); }

std::size_t scratch_bytes(const ScratchQuery& query) {
  const bool attends = query.attention.batch > 0 && query.attention.head_dim > 0;
  return std::max({attends ? attention_scratch_bytes(query.attention, query.dtype) : 0,
                   column_scratch_bytes(query.channels), embedding_scratch_bytes(query.rows),
                   grad_norm_scratch_bytes(query.parameters)});
}

std::size_t workspace_bytes() { return GemmPlanner::kWorkspaceBytes + GemmPlanner::kSpillBytes; }

std::string gemm_plan(const KernelContext& context) {
  return static_cast<const Context&>(context).gemm.text();
}

bool adopt_gemm_plan(KernelContext& context, const std::string& plan) {
  return static_cast<Context&>(context).gemm.adopt(plan);
}

}  // namespace
}  // namespace lockstep::cuda

namespace lockstep {

const KernelTable* cuda_kernels() {
  static const KernelTable table{.name = "cuda",
                                 .create_context = cuda::create_context,
                                 .scratch_bytes = cuda::scratch_bytes,
                                 .workspace_bytes = cuda::workspace_bytes,
                                 .gemm_plan = cuda::gemm_plan,
                                 .adopt_gemm_plan = cuda::adopt_gemm_plan,
                                 .gemm = cuda::gemm,
                                 .attention_forward = cuda::attention_forward,
                                 .attention_backward = cuda::attention_backward,
                                 .paged_attention = cuda::paged_attention,
                                 .paged_append = cuda::paged_append,
                                 .norm_forward = cuda::norm_forward,
                                 .norm_backward = cuda::norm_backward,
                                 .embedding_forward = cuda::embedding_forward,
                                 .embedding_backward = cuda::embedding_backward,
                                 .rope = cuda::rope,
                                 .swiglu_forward = cuda::swiglu_forward,
                                 .swiglu_backward = cuda::swiglu_backward,
                                 .round_rows = cuda::round_rows,
                                 .classifier = cuda::classifier,
                                 .loss_totals = cuda::loss_totals,
                                 .grad_norm = cuda::grad_norm,
                                 .step_update = cuda::step_update,
                                 .adamw = cuda::adamw,
                                 .cast = cuda::cast};
  return &table;
}

}  // namespace lockstep
