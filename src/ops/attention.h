// Causal attention, multi-head or grouped-query, without a T x T matrix in memory
// (FlashAttention-2: Dao, arXiv 2307.08691; grouped queries: Ainslie et al., arXiv 2305.13245).
#pragma once

#include "device/stream.h"
#include "kernels/table.h"

namespace lockstep::ops {

// out = softmax(q k^T / sqrt(D)) v per head. Query row i of a sequence sees key rows
// 0 .. q_offset + i; head h reads key/value head h / (H/G).
//
// Shapes: out and q (B*q_len, H*D); k and v (B*kv_rows, G*D), sequence b from row b*kv_rows on;
// lse (B, H, q_len) fp32 or absent. D is a multiple of 8, at most 128; G divides H;
// q_offset + q_len <= kv_len <= kv_rows. q, k, v and out share one of fp32, bf16, fp16; their rows
// may be strided (out's too), as in a packed qkv. Overwrites out and lse.
// Throws CheckError when an argument is not as above.
void attention_forward(const AttentionForward& args, Stream& stream);

// The gradients of q, k and v, from what forward saved. q_offset = 0, q_len = kv_len = kv_rows = T.
// Shapes: dq, q, dout and out (B*T, H*D); dk, dv, k and v (B*T, G*D); lse (B, H, T) fp32. Rows may
// be strided. Overwrites dq, dk and dv, which must not overlap any input.
// scratch: scratch_bytes() of {attention = shape, dtype = q's}.
// Throws CheckError when an argument is not as above.
void attention_backward(const AttentionBackward& args, Stream& stream);

}  // namespace lockstep::ops
