// The functions that kernels/cpu/table.cpp binds; their contracts stand in kernels/table.h.
// Work is split by shape alone, never by the number of threads, and every sum has one fixed order.
#pragma once

#include "kernels/table.h"

namespace lockstep::cpu {

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

// Bytes of scratch that norm_backward takes.
std::size_t norm_scratch_bytes(std::int64_t rows, std::int64_t channels);

}  // namespace lockstep::cpu
