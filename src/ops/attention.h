// Causal attention, multi-head or grouped-query, without a T x T matrix in memory
// (FlashAttention-2: Dao, arXiv 2307.08691; grouped queries: Ainslie et al., arXiv 2305.13245):
// over whole sequences of one length for training, over pages of keys for inference.
#pragma once

#include "device/stream.h"
#include "kernels/table.h"

namespace lockstep::ops {

// out = softmax(q k^T / sqrt(D)) v per head. Query row i of a sequence sees the key rows from its
// document's first one, document_starts (0 when absent), to q_offset + i; head h reads key/value
// head h / (H/G).
//
// Shapes: out and q (B*q_len, H*D); k and v (B*kv_rows, G*D), sequence b from row b*kv_rows on;
// lse (B, H, q_len) fp32 or absent; document_starts (B*q_len) int32 or absent: key rows of the
// query's own sequence, each at most q_offset + i and never descending within a sequence.
// D is at most 256; G divides H; q_offset + q_len <= kv_len <= kv_rows. q, k, v and out share one
// of fp32, bf16, fp16; their rows may be strided (out's too), as in a packed qkv. Overwrites out
// and lse. D a multiple of 8 up to 128, rows on 16 bytes and no document_starts is the fast case.
// Throws CheckError when an argument is not as above.
void attention_forward(const AttentionForward& args, Stream& stream);

// The gradients of q, k and v, from what forward saved. q_offset = 0, q_len = kv_len = kv_rows = T;
// document_starts (B*T) as in forward.
// Shapes: dq, q, dout and out (B*T, H*D); dk, dv, k and v (B*T, G*D); lse (B, H, T) fp32. Rows may
// be strided. Overwrites dq, dk and dv, which must not overlap any input.
// scratch: scratch_bytes() of {attention = shape, dtype = q's}.
// Throws CheckError when an argument is not as above.
void attention_backward(const AttentionBackward& args, Stream& stream);

// Inference on S sequences of different lengths at once. A PagedBatch says, all in device memory:
// rows query_starts[s] .. query_starts[s + 1] - 1 of this call are the newest tokens of sequence s,
// which with them has kv_lens[s] tokens; token t of it lies in row
// page_table[s, t / page_size] * page_size + t % page_size of the pages.
//
// Shapes: page_table (S, P) int32; query_starts (S + 1) int32, not descending, from 0 to at most N;
// kv_lens (S) int32, each at least its sequence's new rows and at most P*page_size. A sequence may
// have no new rows; page numbers beyond its tokens are not read. These numbers are on the device:
// the caller has checked them. Rows from query_starts[S] on belong to nobody.

// out = softmax(q k^T / sqrt(D)) v per head; a new row of a sequence sees the sequence's tokens up
// to its own. Rows of nobody become 0. A sequence's rows depend, bit for bit, on that sequence
// alone.
// Shapes: out and q (N, H*D); k_pages and v_pages (pages*page_size, G*D), rows may be strided; D is
// at most 256; G divides H. All share one of fp32, bf16, fp16. Overwrites out.
// Throws CheckError when an argument is not as above.
void paged_attention(const PagedAttention& args, Stream& stream);

// Copies the new rows k and v (N, C) to their places in k_pages and v_pages (pages*page_size, C);
// rows of nobody go nowhere. Two sequences may share pages that this call does not write. All
// share one of fp32, bf16, fp16; rows may be strided. Throws CheckError otherwise.
void paged_append(const PagedAppend& args, Stream& stream);

}  // namespace lockstep::ops
