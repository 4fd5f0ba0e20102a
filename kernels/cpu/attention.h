// What attention's forward, paged forward and backward share: the tile sizes, the scale, the small
// product, and the forward of one tile of queries.
#pragma once

#include "kernels/cpu/context.h"
#include "kernels/cpu/rows.h"

#include <cblas.h>

#include <cmath>
#include <cstdint>

namespace lockstep::cpu {

inline constexpr std::int64_t kQueryTile = 64;
inline constexpr std::int64_t kKeyTile = 128;

inline float softmax_scale(std::int64_t D) { return 1.0f / std::sqrt(static_cast<float>(D)); }

// out (M, N) = or += scale * op(a) op(b).
struct Product {
  float* out = nullptr;
  std::int64_t stride = 0;  // of out
  Matrix a;
  Matrix b;
  bool transpose_a = false;
  bool transpose_b = false;
  std::int64_t M = 0;
  std::int64_t N = 0;
  std::int64_t K = 0;
  float scale = 1.0f;
  bool accumulate = false;
};

inline void multiply(const Product& p) {
  cblas_sgemm(CblasRowMajor, p.transpose_a ? CblasTrans : CblasNoTrans,
              p.transpose_b ? CblasTrans : CblasNoTrans, static_cast<blasint>(p.M),
              static_cast<blasint>(p.N), static_cast<blasint>(p.K), p.scale, p.a.data,
              static_cast<blasint>(p.a.stride), p.b.data, static_cast<blasint>(p.b.stride),
              p.accumulate ? 1.0f : 0.0f, p.out, static_cast<blasint>(p.stride));
}

// Where the keys and values of a sequence lie: from row `first` on, or, where there are pages, in
// pieces of page_size rows.
struct KeyRows {
  std::int64_t first = 0;
  const std::int32_t* pages = nullptr;
  std::int64_t page_size = 0;

  std::int64_t row(std::int64_t key) const {
    if (pages == nullptr) return first + key;
    return pages[key / page_size] * page_size + key % page_size;
  }
};

// A tile of at most kQueryTile query rows of one head. Query i sees keys starts[i] .. last_seen +
// i.
struct ForwardTask {
  Tensor out, q;  // (N, H*D)
  Tensor k, v;    // (rows, G*D)
  std::int64_t D = 0;
  std::int64_t query_row = 0;  // of out and q
  std::int64_t rows = 0;
  std::int64_t query_column = 0;
  std::int64_t key_column = 0;
  KeyRows keys;
  std::int64_t last_seen = 0;
  const std::int32_t* starts = nullptr;  // null: 0
  float* lse = nullptr;                  // of the tile's rows, or null
};

// Before a parallel region; then, inside it, the tasks in any order.
void reserve_forward(CpuContext& context, std::int64_t D);
void attend(const ForwardTask& task, CpuContext& context);

}  // namespace lockstep::cpu
