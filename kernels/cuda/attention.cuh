// Flash-style causal attention on CUDA: no T x T matrix reaches device memory, and every sum is
// added in a fixed order, so results are bit-identical from run to run. attention.cu chooses among
// the kernels below by dtype and shape.
#pragma once

#include "kernels/table.h"

#include <cstddef>

namespace lockstep::cuda {

// Bytes that attention_backward needs in AttentionBackward::scratch, whichever kernel runs.
std::size_t attention_scratch_bytes(const AttentionShape& shape, DType dtype);

// attention_forward.cu, attention_backward.cu: 16-bit on tensor cores; head_dim a multiple of 8 up
// to 128, rows on 16 bytes, no document starts.
void attention_forward_mma(const AttentionForward& args, Stream& stream);
void attention_backward_mma(const AttentionBackward& args, Stream& stream);
std::size_t attention_scratch_bytes_mma(const AttentionShape& shape);

// attention_fp32.cu: fp32, no tensor cores; head_dim a multiple of 4 up to 128, rows on 16 bytes,
// no document starts.
void attention_forward_fp32(const AttentionForward& args, Stream& stream);
void attention_backward_fp32(const AttentionBackward& args, Stream& stream);

// attention_tf32_forward.cu, attention_tf32_backward.cu: the same rows on tensor cores in TF32.
void attention_forward_tf32(const AttentionForward& args, Stream& stream);
void attention_backward_tf32(const AttentionBackward& args, Stream& stream);

// attention_any.cu: everything else. Scratch of the plain kernels, fp32's too: one float per query.
void attention_forward_any(const AttentionForward& args, Stream& stream);
void attention_backward_any(const AttentionBackward& args, Stream& stream);

}  // namespace lockstep::cuda
