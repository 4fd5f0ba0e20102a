// The functions that kernels/cuda/table.cu binds; their contracts stand in kernels/table.h.
// Each is a launcher: it checks what only this backend needs, launches, and checks the launch.
#pragma once

#include "kernels/table.h"

#include <cstddef>

namespace lockstep::cuda {

void gemm(const GemmArgs& args, Stream& stream);
void attention_forward(const AttentionForward& args, Stream& stream);
void attention_backward(const AttentionBackward& args, Stream& stream);
void paged_attention(const PagedAttention& args, Stream& stream);
void paged_append(const PagedAppend& args, Stream& stream);
void norm_forward(const NormForward& args, Stream& stream);
void norm_backward(const NormBackward& args, Stream& stream);
void embedding_forward(const EmbeddingForward& args, Stream& stream);
void embedding_backward(const EmbeddingBackward& args, Stream& stream);
void rope(const RopeArgs& args, Stream& stream);
void swiglu_forward(const SwigluForward& args, Stream& stream);
void swiglu_backward(const SwigluBackward& args, Stream& stream);
void round_rows(const RoundRows& args, Stream& stream);
void classifier(const ClassifierArgs& args, Stream& stream);
void loss_totals(const LossTotals& args, Stream& stream);
void grad_norm(const GradNormArgs& args, Stream& stream);
void step_update(const StepUpdateArgs& args, Stream& stream);
void adamw(const AdamWArgs& args, Stream& stream);
void cast(const Tensor& dst, const Tensor& src, Stream& stream);

// Bytes of scratch that each needs. They call nothing of CUDA: plans are made without a driver.
std::size_t column_scratch_bytes(std::int64_t columns);  // norm_backward and gemm's bias_grad
std::size_t embedding_scratch_bytes(std::int64_t rows);
std::size_t grad_norm_scratch_bytes(std::int64_t parameters);

}  // namespace lockstep::cuda
