// Column sums in two stages: many blocks each sum some rows into one partial row of scratch, then
// one launch adds the partial rows in index order. Used for bias, norm weight and norm bias
// gradients. The number of partial rows depends on the shape and the card alone.
#pragma once

#include "device/stream.h"

#include <cstdint>

namespace lockstep::cuda {

// The most partial rows a first stage may write; scratch is sized for it.
inline constexpr std::int64_t kMaxPartialRows = 512;

// first[c] += sum over rows r of partials[r, c], and, where second is not null,
// second[c] += sum over rows r of partials[r, columns + c]. partials is (partial_rows, stride).
void add_partial_rows(float* first, float* second, const float* partials, std::int64_t partial_rows,
                      std::int64_t columns, std::int64_t stride, Stream& stream);

// The scratch of an op as floats; CHECKs that it holds `floats`.
float* scratch_floats(const Tensor& scratch, std::int64_t floats);

}  // namespace lockstep::cuda
