// Causal attention by tiles of queries against tiles of keys with an online softmax
// (FlashAttention-2, arXiv 2307.08691): a thread holds one (kQueryTile, kKeyTile) tile of scores.
// One task per (sequence, head, query tile). The products are small OpenBLAS calls.
#include "kernels/cpu/attention.h"

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

// scores = exp(scores - running maximum) on the visible keys [hidden, visible) and 0 around them;
// what was accumulated under an older maximum is scaled down to the new one.
void softmax_row(float* scores, std::int64_t hidden, std::int64_t visible, std::int64_t width,
                 float& maximum, float& sum, float* out, std::int64_t D) {
  float top = maximum;
#pragma omp simd reduction(max : top)
  for (std::int64_t j = hidden; j < visible; ++j) top = std::max(top, scores[j]);
  float added = 0.0f;
#pragma omp simd reduction(+ : added)
  for (std::int64_t j = hidden; j < visible; ++j) {
    scores[j] = fast_exp(scores[j] - top);
    added += scores[j];
  }
  std::fill(scores, scores + hidden, 0.0f);
  std::fill(scores + visible, scores + width, 0.0f);
  if (top > maximum) {
    const float shrink = fast_exp(maximum - top);
    sum *= shrink;
    for (std::int64_t d = 0; d < D; ++d) out[d] *= shrink;
    maximum = top;
  }
  sum += added;
}

// Keys [key, key + width) of the task's sequence and head.
Matrix keys_of(const Tensor& tensor, const ForwardTask& task, std::int64_t key, std::int64_t width,
               float* buffer) {
  const KeyRows& keys = task.keys;
  if (keys.pages == nullptr || keys.page_size % kKeyTile == 0) {
    return matrix_of(tensor, keys.row(key), width, task.key_column, task.D, buffer);
  }
  for (std::int64_t r = 0; r < width; ++r) {
    load_row(buffer + r * task.D, element(tensor, keys.row(key + r), task.key_column), tensor.dtype,
             task.D);
  }
  return {buffer, task.D};
}

// One tile of keys, rows [key, key + width) of the sequence.
void add_keys(const ForwardTask& task, const Matrix& q, std::int64_t key, std::int64_t width,
              const ForwardSpace& space) {
  const std::int64_t D = task.D;
  const Matrix k = keys_of(task.k, task, key, width, space.k);
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
    const std::int64_t limit = task.last_seen + i + 1 - key;
    const std::int64_t visible = std::clamp<std::int64_t>(limit, 0, width);
    const std::int64_t start = task.starts == nullptr ? 0 : task.starts[i] - key;
    softmax_row(space.scores + i * kKeyTile, std::clamp<std::int64_t>(start, 0, visible), visible,
                width, space.maxima[i], space.sums[i], space.out + i * D, D);
  }
  const Matrix v = keys_of(task.v, task, key, width, space.v);
  multiply({.out = space.out,
            .stride = D,
            .a = {space.scores, kKeyTile},
            .b = v,
            .M = task.rows,
            .N = D,
            .K = width,
            .accumulate = true});
}

void write_rows(const ForwardTask& task, const ForwardSpace& space) {
  for (std::int64_t i = 0; i < task.rows; ++i) {
    const float inverse = 1.0f / space.sums[i];
    float* row = space.out + i * task.D;
    for (std::int64_t d = 0; d < task.D; ++d) row[d] *= inverse;
    store_row(element(task.out, task.query_row + i, task.query_column), row, task.out.dtype,
              task.D);
    if (task.lse != nullptr) task.lse[i] = space.maxima[i] + std::log(space.sums[i]);
  }
}

}  // namespace

void reserve_forward(CpuContext& context, std::int64_t D) {
  context.reserve_per_thread(forward_floats(D));
}

void attend(const ForwardTask& task, CpuContext& context) {
  const ForwardSpace space = divide(context.thread_buffer(), task.D);
  std::fill_n(space.out, task.rows * task.D, 0.0f);
  std::fill_n(space.maxima, task.rows, -std::numeric_limits<float>::infinity());
  std::fill_n(space.sums, task.rows, 0.0f);
  const Matrix q = matrix_of(task.q, task.query_row, task.rows, task.query_column, task.D, space.q);
  const std::int64_t end = task.last_seen + task.rows;
  const std::int64_t start = task.starts == nullptr ? 0 : task.starts[0];
  for (std::int64_t key = start / kKeyTile * kKeyTile; key < end; key += kKeyTile) {
    add_keys(task, q, key, std::min(kKeyTile, end - key), space);
  }
  write_rows(task, space);
}

void attention_forward(const AttentionForward& args, Stream& stream) {
  const AttentionShape& shape = args.shape;
  const std::int64_t tiles = (shape.q_len + kQueryTile - 1) / kQueryTile;
  const std::int64_t tasks = shape.batch * shape.heads * tiles;
  const auto* starts = static_cast<const std::int32_t*>(args.document_starts.data);
  auto* lse = static_cast<float*>(args.lse.data);
  CpuContext& context = context_of(stream);
  reserve_forward(context, shape.head_dim);
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t index = 0; index < tasks; ++index) {
    const std::int64_t first = index % tiles * kQueryTile;
    const std::int64_t head = index / tiles % shape.heads;
    const std::int64_t sequence = index / tiles / shape.heads;
    ForwardTask task{.out = args.out, .q = args.q, .k = args.k, .v = args.v, .D = shape.head_dim};
    task.query_row = sequence * shape.q_len + first;
    task.rows = std::min(kQueryTile, shape.q_len - first);
    task.query_column = head * shape.head_dim;
    task.key_column = head / (shape.heads / shape.kv_heads) * shape.head_dim;
    task.keys.first = sequence * shape.kv_rows;
    task.last_seen = shape.q_offset + first;
    if (starts != nullptr) task.starts = starts + task.query_row;
    if (lse != nullptr) {
      task.lse = lse + (sequence * shape.heads + head) * shape.q_len + first;
    }
    attend(task, context);
  }
}

}  // namespace lockstep::cpu
