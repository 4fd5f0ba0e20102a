// What attention's forward and backward share: the tile sizes, the scale and the small product.
#pragma once

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

}  // namespace lockstep::cpu
