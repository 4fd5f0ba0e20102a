// Every kernel of the project on one page: its arguments with their shapes, and the one list from
// which the table of function references and each backend's declarations are made. What a kernel
// computes, which dtypes and values it takes and what may overlap is said by its op in src/ops,
// which checks the arguments and then makes one call through the table.
//
// Legend: B batch, T sequence, N = B*T rows, C channels, H query heads, G key/value heads, D head
// dim, F ffn width, V vocabulary (Vp padded rows in device buffers), M/K gemm sizes.
// An absent tensor means "not wanted". All work is enqueued on the stream and is complete when the
// stream reaches it. Floating-point results never depend on thread count or timing: no
// floating-point atomics.
#pragma once

#include "core/tensor.h"
#include "core/weight.h"
#include "device/stream.h"

#include <cstdint>
#include <string>

namespace lockstep {

enum class Activation { kNone, kGelu };

struct GemmArgs {  // ops/gemm.h
  Tensor out;      // (M, N)
  Tensor a;        // (M, K), or stored (K, M) when transpose_a
  Weight b;        // (K, N), or stored (N, K) when transpose_b (a weight's own layout)
  bool transpose_a = false;
  bool transpose_b = false;
  bool accumulate = false;
  float scale = 1.0f;
  Tensor bias;      // (N)
  Tensor residual;  // (M, N)
  Activation activation = Activation::kNone;
  Tensor preactivation_out;  // (M, N)
  Activation activation_grad = Activation::kNone;
  Tensor preactivation;  // (M, N)
  Tensor bias_grad;      // (M)
  Tensor scratch;        // bytes
};

struct AttentionShape {       // ops/attention.h
  std::int64_t batch = 0;     // B
  std::int64_t q_len = 0;     // query rows per sequence
  std::int64_t kv_len = 0;    // key rows per sequence that exist
  std::int64_t kv_rows = 0;   // key rows per sequence in memory (a KV cache's capacity)
  std::int64_t q_offset = 0;  // position of query row 0
  std::int64_t heads = 0;     // H
  std::int64_t kv_heads = 0;  // G
  std::int64_t head_dim = 0;  // D
};
struct AttentionForward {
  Tensor out;              // (B*q_len, H*D)
  Tensor lse;              // (B, H, q_len)
  Tensor q;                // (B*q_len, H*D)
  Tensor k;                // (B*kv_rows, G*D)
  Tensor v;                // (B*kv_rows, G*D)
  Tensor document_starts;  // (B*q_len)
  AttentionShape shape;
};
struct AttentionBackward {
  Tensor dq;               // (B*T, H*D)
  Tensor dk, dv;           // (B*T, G*D)
  Tensor dout;             // (B*T, H*D)
  Tensor q;                // (B*T, H*D)
  Tensor k, v;             // (B*T, G*D)
  Tensor out;              // (B*T, H*D)
  Tensor lse;              // (B, H, T)
  Tensor document_starts;  // (B*T)
  AttentionShape shape;
  Tensor scratch;  // bytes
};

// Sequences of different lengths that are worked on together, their keys and values in pages.
// Legend: S sequences, P pages a sequence may have.
struct PagedBatch {
  Tensor page_table;    // (S, P)
  Tensor query_starts;  // (S + 1)
  Tensor kv_lens;       // (S)
  std::int64_t page_size = 0;
};
struct PagedAttention {
  Tensor out;      // (N, H*D)
  Tensor q;        // (N, H*D)
  Tensor k_pages;  // (pages*page_size, G*D)
  Tensor v_pages;  // (pages*page_size, G*D)
  PagedBatch batch;
  std::int64_t heads = 0;     // H
  std::int64_t kv_heads = 0;  // G
  std::int64_t head_dim = 0;  // D
};
struct PagedAppend {
  Tensor k_pages;  // (pages*page_size, C)
  Tensor v_pages;  // (pages*page_size, C)
  Tensor k;        // (N, C)
  Tensor v;        // (N, C)
  PagedBatch batch;
};

// With mean it is a LayerNorm, without a RMSNorm.
struct NormForward {  // ops/norm.h
  Tensor out;         // (N, C)
  Tensor mean;        // (N)
  Tensor rstd;        // (N)
  Tensor x;           // (N, C)
  Tensor weight;      // (C)
  Tensor bias;        // (C)
  float eps = 1e-5f;
};
struct NormBackward {
  Tensor dx;             // (N, C)
  Tensor dweight;        // (C)
  Tensor dbias;          // (C)
  Tensor dy;             // (N, C)
  Tensor x;              // (N, C)
  Tensor mean, rstd;     // (N)
  Tensor weight;         // (C)
  Tensor residual_grad;  // (N, C)
  Tensor scratch;        // bytes
};

struct EmbeddingForward {  // ops/embedding.h
  Tensor out;              // (N, C)
  Tensor tokens;           // (N)
  Weight token_table;      // (V, C)
  Tensor position_table;   // (P, C)
  Tensor positions;        // (N)
  std::int64_t seq_len = 0;
  std::int64_t position_offset = 0;
};
struct EmbeddingBackward {
  Tensor dtoken_table;     // (V, C)
  Tensor dposition_table;  // (P, C)
  Tensor tokens;           // (N)
  Tensor dout;             // (N, C)
  std::int64_t seq_len = 0;
  Tensor scratch;  // bytes
};

struct RopeArgs {    // ops/rope.h
  Tensor x;          // (N, heads*D)
  Tensor table;      // (P, D)
  Tensor positions;  // (N)
  std::int64_t head_dim = 0;
  std::int64_t seq_len = 0;
  std::int64_t position_offset = 0;
  bool inverse = false;
};

struct SwigluForward {  // ops/swiglu.h
  Tensor out;           // (N, F)
  Tensor gate_up;       // (N, 2F)
};
struct SwigluBackward {
  Tensor dgate_up;  // (N, 2F)
  Tensor dout;      // (N, F)
  Tensor gate_up;   // (N, 2F)
};

struct RoundRows {  // ops/round_rows.h
  Tensor out;       // (N, C)
  Tensor x;         // (N, C)
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

struct ClassifierArgs {  // ops/classifier.h
  Tensor logits;         // (N, Vp)
  Tensor losses;         // (N)
  Tensor correct;        // (N)
  Tensor targets;        // (N)
  std::int64_t vocab = 0;
  bool write_gradient = false;
  const StepState* state = nullptr;  // on the device
};
struct DivergenceArgs {  // ops/divergence.h
  // Bits of a verdict: the target is the first largest logit, the same of the reference, both have
  // their first largest one in the same place.
  static constexpr std::uint8_t kRight = 1, kReferenceRight = 2, kSameTop = 4;

  Tensor logits;            // (N, Vp)
  Tensor reference;         // (N, Vr)
  Tensor targets;           // (N)
  Tensor losses;            // (N)
  Tensor reference_losses;  // (N)
  Tensor divergences;       // (N)
  Tensor verdicts;          // (N)
  std::int64_t vocab = 0;
};

struct LossTotals {
  Tensor totals;   // (3)
  Tensor losses;   // (N)
  Tensor correct;  // (N)
  Tensor targets;  // (N)
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

struct GradNormArgs {               // ops/optimizer.h
  Tensor sums;                      // (segments)
  Tensor grads;                     // flat
  const WorkItem* items = nullptr;  // on the device
  std::int64_t item_count = 0;
  Tensor scratch;  // bytes
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

struct StepUpdateArgs {        // ops/optimizer.h
  StepState* state = nullptr;  // on the device
  Tensor verdict;              // (segments + 3 or more)
  std::int64_t segments = 0;
  StepRules rules;
};
struct AdamWArgs {                  // ops/optimizer.h
  Tensor master;                    // flat
  Tensor moment1;                   // flat
  Tensor moment2;                   // flat
  Tensor grads;                     // flat
  Tensor weights;                   // flat
  const WorkItem* items = nullptr;  // on the device
  std::int64_t item_count = 0;
  const StepState* state = nullptr;  // on the device
  float beta1 = 0.9f;
  float beta2 = 0.95f;
  float eps = 1e-8f;
  float weight_decay = 0.0f;
};

struct CastArgs {  // ops/cast.h
  Tensor dst;      // any shape
  Tensor src;      // as many elements
};

// Sizes from which the scratch that any kernel may need is computed.
struct ScratchQuery {
  AttentionShape attention;
  std::int64_t rows = 0;        // N of a micro-batch
  std::int64_t channels = 0;    // widest norm or bias
  std::int64_t vocab = 0;       // Vp
  std::int64_t work_items = 0;  // of all parameters
  DType dtype = DType::kF32;
};

// The list, KERNEL(name, arguments): a kernel is added by a line here and a function of that name
// in each backend. A backend that lacks one does not build.
#define LOCKSTEP_KERNELS(KERNEL)                \
  KERNEL(gemm, GemmArgs)                        \
  KERNEL(attention_forward, AttentionForward)   \
  KERNEL(attention_backward, AttentionBackward) \
  KERNEL(paged_attention, PagedAttention)       \
  KERNEL(paged_append, PagedAppend)             \
  KERNEL(norm_forward, NormForward)             \
  KERNEL(norm_backward, NormBackward)           \
  KERNEL(embedding_forward, EmbeddingForward)   \
  KERNEL(embedding_backward, EmbeddingBackward) \
  KERNEL(rope, RopeArgs)                        \
  KERNEL(swiglu_forward, SwigluForward)         \
  KERNEL(swiglu_backward, SwigluBackward)       \
  KERNEL(round_rows, RoundRows)                 \
  KERNEL(classifier, ClassifierArgs)            \
  KERNEL(loss_totals, LossTotals)               \
  KERNEL(divergence, DivergenceArgs)            \
  KERNEL(grad_norm, GradNormArgs)               \
  KERNEL(step_update, StepUpdateArgs)           \
  KERNEL(adamw, AdamWArgs)                      \
  KERNEL(cast, CastArgs)

// A backend's kernels. A reference cannot stay unbound.
struct KernelTable {
  const char* name;
  std::size_t (&scratch_bytes)(const ScratchQuery&);
  // Device memory that a context takes for itself, at most.
  std::size_t (&workspace_bytes)();
  // The gemm algorithms in use as one line of text, and adopting a saved choice. adopt returns
  // false when this machine cannot use it.
  std::string (&gemm_plan)(const KernelContext&);
  bool (&adopt_gemm_plan)(KernelContext&, const std::string&);
  // While on, a gemm of a new kind times the algorithms that its library offers, on the arguments
  // of its first call, and takes the fastest; the call waits for that. Returns false, and does
  // nothing, where there is one algorithm a product.
  bool (&search_gemms)(KernelContext&, bool on);
  // Lets fp32 products and attention round their operands to TF32 (10 bits of mantissa; sums stay
  // fp32). Returns false, and does nothing, where there is no such arithmetic.
  bool (&allow_tf32)(KernelContext&, bool on);

#define LOCKSTEP_REFERENCE(name, Args) void (&name)(const Args&, Stream&);
  LOCKSTEP_KERNELS(LOCKSTEP_REFERENCE)
#undef LOCKSTEP_REFERENCE
};

}  // namespace lockstep
