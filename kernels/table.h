// Every kernel of the project on one page: the argument structs and the table of function
// references that each backend fills. A reference cannot stay unbound, so a backend that forgets a
// kernel does not compile. src/ops/ checks the arguments, then makes one call through this table.
//
// Legend: B batch, T sequence, N = B*T rows, C channels, H query heads, G key/value heads, D head
// dim, F ffn width, V vocabulary (Vp padded rows in device buffers), M/K gemm sizes.
// Outputs are overwritten unless the comment says "accumulates". An absent tensor means "not
// wanted". All work is enqueued on the stream and is complete when the stream reaches it.
// Floating-point results never depend on thread count or timing: no floating-point atomics.
#pragma once

#include "core/tensor.h"
#include "device/stream.h"

#include <cstdint>
#include <memory>
#include <string>

namespace lockstep {

enum class Activation { kNone, kGelu };  // GELU is the tanh form of GPT-2

// out = act(scale * op(a) op(b) + bias) + residual, or, backward, act'(preactivation) * op(a)
// op(b). fp32 accumulation whatever the storage dtype. a and b share one dtype; out has it too, or
// fp32.
struct GemmArgs {
  Tensor out;  // (M, N)
  Tensor a;    // (M, K), or stored (K, M) when transpose_a
  Tensor b;    // (K, N), or stored (N, K) when transpose_b (a weight's own layout)
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;  // out += instead of out =; excludes activation and residual
  float scale = 1.0f;
  Tensor bias;      // (N), a's dtype
  Tensor residual;  // (M, N), out's dtype, added last; may be out itself
  Activation activation = Activation::kNone;
  Tensor preactivation_out;  // (M, N), out's dtype: what went into the activation
  Activation activation_grad = Activation::kNone;
  Tensor preactivation;  // (M, N), out's dtype: read when activation_grad is set
  Tensor bias_grad;      // (M) fp32, accumulates the sums of op(a)'s rows: with a = dy and
                         // transpose_a this is the bias gradient beside dW = dy^T x
  Tensor scratch;        // scratch_bytes() of uint8
};

// Causal attention without a T x T matrix in memory (FlashAttention-2: Dao, arXiv 2307.08691).
// Query row i of a sequence sees key rows 0 .. q_offset + i. Head h reads key/value head h / (H/G).
struct AttentionShape {
  std::int64_t batch = 0;     // B
  std::int64_t q_len = 0;     // query rows per sequence
  std::int64_t kv_len = 0;    // key rows per sequence that exist; q_offset + q_len <= kv_len
  std::int64_t kv_rows = 0;   // key rows per sequence in memory (a KV cache's capacity), >= kv_len
  std::int64_t q_offset = 0;  // position of query row 0
  std::int64_t heads = 0;     // H
  std::int64_t kv_heads = 0;  // G
  std::int64_t head_dim = 0;  // D, at most 256
};
struct AttentionForward {
  Tensor out;  // (B*q_len, H*D)
  Tensor lse;  // (B, H, q_len) fp32: log of the softmax denominator, for backward; may be absent
  Tensor q;    // (B*q_len, H*D), rows may be strided
  Tensor k;    // (B*kv_rows, G*D), rows may be strided
  Tensor v;    // (B*kv_rows, G*D), rows may be strided
  Tensor document_starts;  // (B*q_len) int32 or absent
  AttentionShape shape;
};
struct AttentionBackward {  // q_offset = 0, q_len = kv_len = kv_rows
  Tensor dq, dk, dv;        // as q, k, v; rows may be strided
  Tensor dout;              // (B*T, H*D)
  Tensor q, k, v, out, lse;
  Tensor document_starts;  // (B*T) int32 or absent
  AttentionShape shape;
  Tensor scratch;  // scratch_bytes() of uint8
};

// Sequences of different lengths that are worked on together, their keys and values in pages.
// Legend: S sequences, P pages a sequence may have.
struct PagedBatch {
  Tensor page_table;    // (S, P) int32
  Tensor query_starts;  // (S + 1) int32
  Tensor kv_lens;       // (S) int32
  std::int64_t page_size = 0;
};
struct PagedAttention {
  Tensor out;      // (N, H*D)
  Tensor q;        // (N, H*D), rows may be strided
  Tensor k_pages;  // (pages*page_size, G*D), rows may be strided
  Tensor v_pages;  // (pages*page_size, G*D), rows may be strided
  PagedBatch batch;
  std::int64_t heads = 0;     // H
  std::int64_t kv_heads = 0;  // G
  std::int64_t head_dim = 0;  // D
};
struct PagedAppend {
  Tensor k_pages;  // (pages*page_size, C), rows may be strided
  Tensor v_pages;  // (pages*page_size, C), rows may be strided
  Tensor k;        // (N, C), rows may be strided
  Tensor v;        // (N, C), rows may be strided
  PagedBatch batch;
};

enum class NormKind { kLayerNorm, kRmsNorm };
struct NormForward {
  Tensor out;     // (N, C)
  Tensor mean;    // (N) fp32; absent for RMSNorm
  Tensor rstd;    // (N) fp32
  Tensor x;       // (N, C)
  Tensor weight;  // (C)
  Tensor bias;    // (C) or absent
  float eps = 1e-5f;
  NormKind kind = NormKind::kLayerNorm;
};
// dx = residual_grad + norm'(dy): the residual stream's gradient is added in the same pass.
struct NormBackward {
  Tensor dx;             // (N, C)
  Tensor dweight;        // (C) fp32, accumulates
  Tensor dbias;          // (C) fp32, accumulates; absent when there is no bias
  Tensor dy;             // (N, C)
  Tensor x;              // (N, C)
  Tensor mean, rstd;     // (N) fp32
  Tensor weight;         // (C)
  Tensor residual_grad;  // (N, C), may be dx itself; absent means 0
  NormKind kind = NormKind::kLayerNorm;
  Tensor scratch;  // scratch_bytes() of uint8
};

// out[r] = token_table[tokens[r]] + position_table[p], p = positions[r] where those are given, else
// position_offset + r % seq_len.
struct EmbeddingForward {
  Tensor out;             // (N, C)
  Tensor tokens;          // (N) int32, each in [0, V)
  Tensor token_table;     // (V, C)
  Tensor position_table;  // (P, C) or absent
  Tensor positions;       // (N) int32 or absent
  std::int64_t seq_len = 0;
  std::int64_t position_offset = 0;
};
struct EmbeddingBackward {
  Tensor dtoken_table;     // (V, C) fp32, accumulates, summed in row order
  Tensor dposition_table;  // (P, C) fp32, accumulates; absent without learned positions
  Tensor tokens;           // (N) int32
  Tensor dout;             // (N, C)
  std::int64_t seq_len = 0;
  Tensor scratch;  // scratch_bytes() of uint8
};

// Rotates, in place, pairs (i, i + D/2) of every head by the angle of the row's position
// (half-split order, as Hugging Face's Llama). inverse rotates back (the gradient).
struct RopeArgs {
  Tensor x;          // (N, heads*D), rows may be strided
  Tensor table;      // (P, D) fp32: D/2 cosines, then D/2 sines, per position
  Tensor positions;  // (N) int32 or absent: position_offset + r % seq_len
  std::int64_t head_dim = 0;
  std::int64_t seq_len = 0;
  std::int64_t position_offset = 0;
  bool inverse = false;
};

// out = silu(gate) * up, with gate and up the halves of each row.
struct SwigluForward {
  Tensor out;      // (N, F)
  Tensor gate_up;  // (N, 2F)
};
struct SwigluBackward {
  Tensor dgate_up;  // (N, 2F); may be gate_up itself
  Tensor dout;      // (N, F)
  Tensor gate_up;   // (N, 2F)
};

// Each row rounded to int8 steps of its own and back: s = max|x| / 127.5, out = s * clamp(rint(x /
// s), -128, 127), in fp32, then rounded to storage; what dynamic int8 inference makes of the inputs
// of linear layers. A row of zeros stays zero; NaN stays NaN.
struct RoundRows {
  Tensor out;  // (N, C), rows may be strided; may be x itself
  Tensor x;    // (N, C), rows may be strided
};

// What changes from step to step, in device memory, so that nothing is passed by value.
// One struct per run; written by step_update only.
struct StepState {
  float loss_scale = 1.0f;       // S; 1 except in fp16
  float grad_seed = 0.0f;        // S / (micro_batch_size * seq_len): what backward starts from
  float lr = 0.0f;               // of the update that this step makes
  float grad_norm = 0.0f;        // unscaled, before clipping
  float grad_multiplier = 0.0f;  // unscale * clip: what the optimizer multiplies gradients by
  std::int32_t finite = 1;       // 0: this step is skipped
  std::int32_t good_steps = 0;   // finite steps in a row since the scale last changed
  std::int32_t skips_in_row = 0;
  std::int64_t updates = 0;  // applied updates, this step's included when finite
  std::int64_t skipped = 0;  // steps skipped since the run began
};

// Fused softmax and cross-entropy over the first `vocab` columns; columns beyond are padding: they
// never count and their gradient is 0. A target below 0 is masked: loss 0, gradient 0.
struct ClassifierArgs {
  Tensor logits;   // (N, Vp); with write_gradient overwritten by dloss/dlogits * state->grad_seed
  Tensor losses;   // (N) fp32
  Tensor correct;  // (N) uint8: 1 if the target is the (first) largest logit; may be absent
  Tensor targets;  // (N) int32
  std::int64_t vocab = 0;
  bool write_gradient = false;
  const StepState* state = nullptr;  // on the device; needed with write_gradient
};

// totals[0] += sum of losses, totals[1] += targets that count, totals[2] += correct (if given).
struct LossTotals {
  Tensor totals;   // (3) fp64, accumulates
  Tensor losses;   // (N) fp32
  Tensor correct;  // (N) uint8 or absent
  Tensor targets;  // (N) int32
};

// A piece of the flat parameter range that one block works on. Pieces never cross a segment.
struct WorkItem {
  std::int64_t begin = 0;     // first element in the flat buffers
  std::int32_t count = 0;     // at most kWorkItemElements
  std::int32_t segment = 0;   // which sum it adds to: one tensor's part of one 1 Mi-element chunk
  std::int32_t decay = 0;     // 1: weight decay applies (matrices)
  std::int32_t reserved = 0;  // keeps the struct free of uninitialised padding
};
inline constexpr std::int64_t kWorkItemElements = 65536;

// sums[s] = sum of grad^2 over the segment's items, in item order; not finite if any element is
// not. Segments without an item in `items` are left alone.
struct GradNormArgs {
  Tensor sums;                      // (segments) fp64
  Tensor grads;                     // flat fp32
  const WorkItem* items = nullptr;  // on the device, ordered by segment
  std::int64_t item_count = 0;
  Tensor scratch;  // scratch_bytes() of uint8
};

// What step_update needs besides the state; fixed for a run.
struct StepRules {
  float micro_tokens = 0.0f;  // micro_batch_size * seq_len
  float clip_grad = 0.0f;     // 0: no clipping
  bool dynamic_scale = false;
  float max_loss_scale = 16777216.0f * 256.0f;  // 2^32
  float min_loss_scale = 1.0f;
  std::int32_t growth_interval = 2000;
  enum class Schedule : std::int32_t { kConstant, kLinear, kCosine, kWsd };
  Schedule schedule = Schedule::kCosine;
  float peak_lr = 0.0f;
  float final_lr_fraction = 0.0f;
  std::int64_t warmup_steps = 0;
  std::int64_t total_steps = 1;  // updates at which the schedule ends
  std::int64_t decay_steps = 0;  // wsd: length of the final decay
};

// Turns the all-reduced sums of a step into its decision. verdict = segment sums, then the totals
// (loss sum, valid tokens, correct). A pure function of its inputs, so every rank decides alike:
//   norm^2 = sum in index order; finite = all sums finite; grad_multiplier = micro_tokens /
//   (valid * S) * min(1, clip / norm); then scale growth or backoff, updates, skipped, lr.
struct StepUpdateArgs {
  StepState* state = nullptr;  // on the device, in and out
  Tensor verdict;              // (segments + 3 or more) fp64
  std::int64_t segments = 0;
  StepRules rules;
};

// AdamW (Loshchilov & Hutter, arXiv 1711.05101) over flat fp32 ranges, bias-corrected by
// state->updates; does nothing but zero the gradients when the step is not finite.
struct AdamWArgs {
  Tensor master;   // flat fp32, updated
  Tensor moment1;  // flat fp32, updated
  Tensor moment2;  // flat fp32, updated
  Tensor grads;    // flat fp32, read times grad_multiplier, then zeroed
  Tensor weights;  // flat, compute dtype: the rounded copy that layers read; absent in fp32
  const WorkItem* items = nullptr;  // on the device
  std::int64_t item_count = 0;
  const StepState* state = nullptr;  // on the device
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float eps = 1e-8f;
  float weight_decay = 0.0f;
};

// Sizes from which the scratch that any kernel may need is computed.
struct ScratchQuery {
  AttentionShape attention;
  std::int64_t rows = 0;      // N of a micro-batch
  std::int64_t channels = 0;  // widest norm or bias
  std::int64_t vocab = 0;     // Vp
  std::int64_t parameters = 0;
  DType dtype = DType::kF32;
};

struct KernelTable {
  const char* name;
  // Per-device state of the backend (library handles, chosen gemm algorithms).
  std::unique_ptr<KernelContext> (&create_context)();
  std::size_t (&scratch_bytes)(const ScratchQuery&);
  // Device memory that a context takes for itself, at most.
  std::size_t (&workspace_bytes)();
  // The gemm algorithms in use as one line of text, and adopting a saved choice. adopt returns
  // false when this machine cannot use it.
  std::string (&gemm_plan)(const KernelContext&);
  bool (&adopt_gemm_plan)(KernelContext&, const std::string&);

  void (&gemm)(const GemmArgs&, Stream&);
  void (&attention_forward)(const AttentionForward&, Stream&);
  void (&attention_backward)(const AttentionBackward&, Stream&);
  void (&paged_attention)(const PagedAttention&, Stream&);
  void (&paged_append)(const PagedAppend&, Stream&);
  void (&norm_forward)(const NormForward&, Stream&);
  void (&norm_backward)(const NormBackward&, Stream&);
  void (&embedding_forward)(const EmbeddingForward&, Stream&);
  void (&embedding_backward)(const EmbeddingBackward&, Stream&);
  void (&rope)(const RopeArgs&, Stream&);
  void (&swiglu_forward)(const SwigluForward&, Stream&);
  void (&swiglu_backward)(const SwigluBackward&, Stream&);
  void (&round_rows)(const RoundRows&, Stream&);
  void (&classifier)(const ClassifierArgs&, Stream&);
  void (&loss_totals)(const LossTotals&, Stream&);
  void (&grad_norm)(const GradNormArgs&, Stream&);
  void (&step_update)(const StepUpdateArgs&, Stream&);
  void (&adamw)(const AdamWArgs&, Stream&);
  // dst = src rounded to dst's dtype; any pair of fp32, bf16, fp16; contiguous, same count.
  void (&cast)(const Tensor& dst, const Tensor& src, Stream&);
};

const KernelTable& cpu_kernels();
// The CUDA backend, or null when this build has none.
const KernelTable* cuda_kernels();

}  // namespace lockstep
