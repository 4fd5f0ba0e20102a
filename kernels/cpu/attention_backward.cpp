// Backward of causal attention (FlashAttention-2, arXiv 2307.08691): the probabilities of a tile
// are recomputed from q, k and the saved lse.
//   P = exp(scale Q K^T - lse)   dV += P^T dO   dS = scale P * (dO V^T - rowsum(dO * O))
//   dQ += dS K                   dK += dS^T Q
// One task per (sequence, key/value head): it alone writes that head's dk and dv and its query
// heads' dq, and visits heads and tiles in a fixed order.
#include "kernels/cpu/attention.h"
#include "kernels/cpu/context.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vector_math.h"

#include <algorithm>

namespace lockstep::cpu {
namespace {

struct BackwardSpace {
  float* dk;           // (T, D)
  float* dv;           // (T, D)
  float* k;            // (T, D) conversions, once per task
  float* v;            // (T, D)
  float* probability;  // (kQueryTile, kKeyTile)
  float* dscore;       // (kQueryTile, kKeyTile)
  float* dq;           // (kQueryTile, D)
  float* q;            // (kQueryTile, D) conversions
  float* out;          // (kQueryTile, D)
  float* dout;         // (kQueryTile, D)
  float* dots;         // (kQueryTile): rowsum(dO * O)
};

std::int64_t backward_floats(std::int64_t T, std::int64_t D) {
  return 4 * T * D + 2 * kQueryTile * kKeyTile + 4 * kQueryTile * D + kQueryTile;
}

BackwardSpace divide(float* buffer, std::int64_t T, std::int64_t D) {
  const auto take = [&buffer](std::int64_t count) {
    float* piece = buffer;
    buffer += count;
    return piece;
  };
  BackwardSpace space{};
  space.probability = take(kQueryTile * kKeyTile);
  space.dscore = take(kQueryTile * kKeyTile);
  for (float** field : {&space.dk, &space.dv, &space.k, &space.v}) *field = take(T * D);
  for (float** field : {&space.dq, &space.q, &space.out, &space.dout}) {
    *field = take(kQueryTile * D);
  }
  space.dots = take(kQueryTile);
  return space;
}

// One tile of queries of one head.
struct QueryTile {
  std::int64_t first = 0;  // row of the sequence
  std::int64_t rows = 0;
  Matrix q;
  Matrix dout;
  const float* lse = nullptr;
  const std::int32_t* starts = nullptr;  // first key that each row sees; null: 0
  std::int64_t first_key = 0;            // of the first tile of keys
};

// probability = exp(score - lse) on the visible keys, 0 beyond; dscore likewise from dprobability.
void tile_gradients(const QueryTile& tile, std::int64_t key, std::int64_t width, float scale,
                    const BackwardSpace& space) {
  for (std::int64_t i = 0; i < tile.rows; ++i) {
    const std::int64_t visible = std::clamp<std::int64_t>(tile.first + i + 1 - key, 0, width);
    const std::int64_t start = tile.starts == nullptr ? 0 : tile.starts[i] - key;
    const std::int64_t hidden = std::clamp<std::int64_t>(start, 0, visible);
    float* p = space.probability + i * kKeyTile;
    float* ds = space.dscore + i * kKeyTile;
    const float lse = tile.lse[i];
    const float dot = space.dots[i];
    for (std::int64_t j = hidden; j < visible; ++j) {
      p[j] = fast_exp(p[j] - lse);
      ds[j] = scale * p[j] * (ds[j] - dot);
    }
    for (float* row : {p, ds}) {
      std::fill(row, row + hidden, 0.0f);
      std::fill(row + visible, row + width, 0.0f);
    }
  }
}

void add_key_tile(const QueryTile& tile, const Matrix& k, const Matrix& v, std::int64_t key,
                  std::int64_t width, std::int64_t D, const BackwardSpace& space) {
  const float scale = softmax_scale(D);
  const Matrix keys{k.data + key * k.stride, k.stride};
  const Matrix values{v.data + key * v.stride, v.stride};
  multiply({.out = space.probability,
            .stride = kKeyTile,
            .a = tile.q,
            .b = keys,
            .transpose_b = true,
            .M = tile.rows,
            .N = width,
            .K = D,
            .scale = scale});
  multiply({.out = space.dscore,
            .stride = kKeyTile,
            .a = tile.dout,
            .b = values,
            .transpose_b = true,
            .M = tile.rows,
            .N = width,
            .K = D});
  tile_gradients(tile, key, width, scale, space);
  const Matrix probability{space.probability, kKeyTile};
  const Matrix dscore{space.dscore, kKeyTile};
  multiply({.out = space.dv + key * D,
            .stride = D,
            .a = probability,
            .b = tile.dout,
            .transpose_a = true,
            .M = width,
            .N = D,
            .K = tile.rows,
            .accumulate = true});
  multiply({.out = space.dk + key * D,
            .stride = D,
            .a = dscore,
            .b = tile.q,
            .transpose_a = true,
            .M = width,
            .N = D,
            .K = tile.rows,
            .accumulate = true});
  multiply({.out = space.dq,
            .stride = D,
            .a = dscore,
            .b = keys,
            .M = tile.rows,
            .N = D,
            .K = width,
            .accumulate = key > tile.first_key});
}

void row_dots(const Matrix& dout, const Matrix& out, std::int64_t rows, std::int64_t D,
              float* dots) {
  for (std::int64_t i = 0; i < rows; ++i) {
    const float* g = dout.data + i * dout.stride;
    const float* o = out.data + i * out.stride;
    float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
    for (std::int64_t d = 0; d < D; ++d) dot += g[d] * o[d];
    dots[i] = dot;
  }
}

void add_query_tile(const AttentionBackward& args, std::int64_t sequence, std::int64_t head,
                    std::int64_t first, const Matrix& k, const Matrix& v,
                    const BackwardSpace& space) {
  const std::int64_t T = args.shape.q_len;
  const std::int64_t D = args.shape.head_dim;
  const std::int64_t row = sequence * T + first;
  QueryTile tile;
  tile.first = first;
  tile.rows = std::min(kQueryTile, T - first);
  tile.q = matrix_of(args.q, row, tile.rows, head * D, D, space.q);
  tile.dout = matrix_of(args.dout, row, tile.rows, head * D, D, space.dout);
  tile.lse =
      static_cast<const float*>(args.lse.data) + (sequence * args.shape.heads + head) * T + first;
  if (args.document_starts) {
    tile.starts = static_cast<const std::int32_t*>(args.document_starts.data) + row;
    tile.first_key = tile.starts[0] / kKeyTile * kKeyTile;
  }
  const Matrix out = matrix_of(args.out, row, tile.rows, head * D, D, space.out);
  row_dots(tile.dout, out, tile.rows, D, space.dots);
  const std::int64_t end = first + tile.rows;
  for (std::int64_t key = tile.first_key; key < end; key += kKeyTile) {
    add_key_tile(tile, k, v, key, std::min(kKeyTile, end - key), D, space);
  }
  for (std::int64_t i = 0; i < tile.rows; ++i) {
    store_row(element(args.dq, row + i, head * D), space.dq + i * D, args.dq.dtype, D);
  }
}

void run_task(const AttentionBackward& args, std::int64_t sequence, std::int64_t kv_head,
              const BackwardSpace& space) {
  const std::int64_t T = args.shape.q_len;
  const std::int64_t D = args.shape.head_dim;
  const std::int64_t group = args.shape.heads / args.shape.kv_heads;
  const Matrix k = matrix_of(args.k, sequence * T, T, kv_head * D, D, space.k);
  const Matrix v = matrix_of(args.v, sequence * T, T, kv_head * D, D, space.v);
  std::fill_n(space.dk, T * D, 0.0f);
  std::fill_n(space.dv, T * D, 0.0f);
  for (std::int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (std::int64_t first = 0; first < T; first += kQueryTile) {
      add_query_tile(args, sequence, head, first, k, v, space);
    }
  }
  for (std::int64_t t = 0; t < T; ++t) {
    store_row(element(args.dk, sequence * T + t, kv_head * D), space.dk + t * D, args.dk.dtype, D);
    store_row(element(args.dv, sequence * T + t, kv_head * D), space.dv + t * D, args.dv.dtype, D);
  }
}

}  // namespace

void attention_backward(const AttentionBackward& args, Stream& stream) {
  const AttentionShape& shape = args.shape;
  CpuContext& context = context_of(stream);
  context.reserve_per_thread(backward_floats(shape.q_len, shape.head_dim));
#pragma omp parallel for schedule(dynamic)
  for (std::int64_t index = 0; index < shape.batch * shape.kv_heads; ++index) {
    run_task(args, index / shape.kv_heads, index % shape.kv_heads,
             divide(context.thread_buffer(), shape.q_len, shape.head_dim));
  }
}

}  // namespace lockstep::cpu
