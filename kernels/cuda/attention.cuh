// Flash-style causal attention on CUDA: the entry points behind the kernel table, and the fp32 pair
// that they hand fp32 tensors to. No T x T matrix reaches device memory, and every sum is added in
// a fixed order, so results are bit-identical from run to run.
#pragma once

#include "kernels/table.h"

#include <cstddef>

namespace lockstep::cuda {

void attention_forward(const AttentionForward& args, Stream& stream);
void attention_backward(const AttentionBackward& args, Stream& stream);
// Bytes that attention_backward needs in AttentionBackward::scratch.
std::size_t attention_scratch_bytes(const AttentionShape& shape, DType dtype);

// attention_fp32.cu: plain fp32 arithmetic, no tensor cores.
void attention_forward_fp32(const AttentionForward& args, Stream& stream);
void attention_backward_fp32(const AttentionBackward& args, Stream& stream);
std::size_t attention_scratch_bytes_fp32(const AttentionShape& shape);

}  // namespace lockstep::cuda
