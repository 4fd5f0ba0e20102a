// Token embedding with optional learned positions (as in GPT-2), and its gradient.
#pragma once

#include "device/stream.h"
#include "kernels/table.h"

namespace lockstep::ops {

// out[r] = token_table[tokens[r]] + position_table[p], with p = positions[r] where those are given,
// else position_offset + r % seq_len.
//
// Shapes: out (N, C); tokens (N) int32, each in [0, V), and positions (N) int32, each in [0, P), or
// absent: the caller has checked them; token_table (V, C); position_table (P, C) or absent. Without
// positions N is a multiple of seq_len, and position_offset + seq_len <= P. out and the tables
// share one of fp32, bf16, fp16. Overwrites out. Throws CheckError when an argument is not as
// above.
void embedding_forward(const EmbeddingForward& args, Stream& stream);

// Accumulates dout's rows into the rows of dtoken_table (V, C) fp32 and dposition_table (P, C)
// fp32; each sum in row order. position_offset is 0 in training.
// scratch: scratch_bytes() of {rows = N, channels = C, vocab = V, dtype = dout's}.
// Throws CheckError when an argument is not as above.
void embedding_backward(const EmbeddingBackward& args, Stream& stream);

}  // namespace lockstep::ops
