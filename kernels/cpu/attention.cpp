// Causal attention by tiles of queries against tiles of keys with an online softmax
// (FlashAttention-2, arXiv 2307.08691): a thread holds one (kQueryTile, kKeyTile) tile of scores.
// Forward: one task per (sequence, head, query tile). The products are small OpenBLAS calls.
#include "kernels/cpu/attention.h"

#include "kernels/cpu/context.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vector_math.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lockstep::cpu {
namespace {

struct ForwardSpace {
  float* scores;  // (kQueryTile, kKeyTile)
  float* out;     // (kQueryTile, D)
  float* maxima;  // (kQueryTile): largest score so far
  float* sums;    // (kQueryTile): sum of exp(score - maximum) so far
  float* q;       // conversions
  float* k;
  float* v;
};

std::int64_t forward_floats(std::int64_t D) {
  return kQueryTile * kKeyTile + 2 * kQueryTile + 2 * kQueryTile * D + 2 * kKeyTile * D;
}

ForwardSpace divide(float* buffer, std::int64_t D) {
  ForwardSpace space{};
  space.scores = buffer;
  space.out = space.scores + kQueryTile * kKeyTile;
  space.maxima = space.out + kQueryTile * D;
  space.sums = space.maxima + kQueryTile;
  space.q = space.sums + kQueryTile;
  space.k = space.q + kQueryTile * D;
  space.v = space.k + kKeyTile * D;
  return space;
}

// scores = exp(scores - running maximum) on the visible keys and 0 beyond; what was accumulated
// under an older maximum is scaled down to the new one.
void softmax_row(float* scores, std::int64_t visible, std::int64_t width, float& maximum,
                 float& sum, float* out, std::int64_t D) {
  float top = maximum;
#pragma omp simd reduction(max : top)
  for (std::int64_t j = 0; j < visible; ++j) top = std::max(top, scores[j]);
  float added = 0.0f;
#pragma omp simd reduction(+ : added)
  for (std::int64_t j = 0; j < visible; ++j) {
    scores[j] = fast_exp(scores[j] - top);
    added += scores[j];
  }
  std::fill(scores + visible, scores + width, 0.0f);
  if (top > maximum) {
    const float shrink = fast_exp(maximum - top);
    sum *= shrink;
    for (std::int64_t d = 0; d < D; ++d) out[d] *= shrink;
    maximum = top;
  }
  sum += added;
}

struct ForwardTask {
  std::int64_t sequence = 0;
  std::int64_t head = 0;
  std::int64_t first = 0;  // query row of the sequence
  std::int64_t rows = 0;
};

// One tile of keys, rows [key, key + width) of the sequence.
void add_keys(const AttentionForward& args, const ForwardTask& task, const Matrix& q,
              std::int64_t key, std::int64_t width, const ForwardSpace& space) {
  const AttentionShape& shape = args.shape;
  const std::int64_t D = shape.head_dim;
  const std::int64_t column = task.head / (shape.heads / shape.kv_heads) * D;
  const std::int64_t row = task.sequence * shape.kv_rows + key;
  const Matrix k = matrix_of(args.k, row, width, column, D, space.k);
  multiply({.out = space.scores,
            .stride = kKeyTile,
            .a = q,
            .b = k,
            .transpose_b = true,
            .M = task.rows,
            .N = width,
            .K = D,
            .scale = softmax_scale(D)});
  for (std::int64_t i = 0; i < task.rows; ++i) {
    const std::int64_t limit = shape.q_offset + task.first + i + 1 - key;
    const std::int64_t visible = std::clamp<std::int64_t>(limit, 0, width);
    softmax_row(space.scores + i * kKeyTile, visible, width, space.maxima[i], space.sums[i],
                space.out + i * D, D);
  }
  const Matrix v = matrix_of(args.v, row, width, column, D, space.v);
  multiply({.out = space.out,
            .stride = D,
            .a = {space.scores, kKeyTile},
            .b = v,
            .M = task.rows,
            .N = D,
            .K = width,
            .accumulate = true});
}

void write_rows(const AttentionForward& args, const ForwardTask& task, const ForwardSpace& space) {
  const AttentionShape& shape = args.shape;
  const std::int64_t D = shape.head_dim;
  for (std::int64_t i = 0; i < task.rows; ++i) {
    const float inverse = 1.0f / space.sums[i];
    float* row = space.out + i * D;
    for (std::int64_t d = 0; d < D; ++d) row[d] *= inverse;
    const std::int64_t query = task.first + i;
    store_row(element(args.out, task.sequence * shape.q_len + query, task.head * D), row,
              args.out.dtype, D);
    if (args.lse) {
      auto* lse = static_cast<float*>(args.lse.data);
      lse[(task.sequence * shape.heads + task.head) * shape.q_len + query] =
          space.maxima[i] + std::log(space.sums[i]);
    }
  }
}

void run_task(const AttentionForward& args, const ForwardTask& task, const ForwardSpace& space) {
  const AttentionShape& shape = args.shape;
  const std::int64_t D = shape.head_dim;
  std::fill_n(space.out, task.rows * D, 0.0f);
  std::fill_n(space.maxima, task.rows, -std::numeric_limits<float>::infinity());
  std::fill_n(space.sums, task.rows, 0.0f);
  const Matrix q = matrix_of(args.q, task.sequence * shape.q_len + task.first, task.rows,
                             task.head * D, D, space.q);
  const std::int64_t end = shape.q_offset + task.first + task.rows;
  for (std::int64_t key = 0; key < end; key += kKeyTile) {
    add_keys(args, task, q, key, std::min(kKeyTile, end - key), space);
  }
  write_rows(args, task, space);
}

}  // namespace

void attention_forward(const AttentionForward& args, Stream& stream) {
  const AttentionShape& shape = args.shape;
  const std::int64_t tiles = (shape.q_len + kQueryTile - 1) / kQueryTile;
  const std::int64_t tasks = shape.batch * shape.heads * tiles;
  CpuContext& context = context_of(stream);
  context.reserve_per_thread(forward_floats(shape.head_dim));
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t index = 0; index < tasks; ++index) {
    ForwardTask task;
    task.first = index % tiles * kQueryTile;
    task.head = index / tiles % shape.heads;
    task.sequence = index / tiles / shape.heads;
    task.rows = std::min(kQueryTile, shape.q_len - task.first);
    run_task(args, task, divide(context.thread_buffer(), shape.head_dim));
  }
}

}  // namespace lockstep::cpu
