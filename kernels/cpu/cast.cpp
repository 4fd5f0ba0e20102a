// Conversion between the float storage types, through fp32 (exact on the way in), in fixed pieces.
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/rows.h"

#include <algorithm>

namespace lockstep::cpu {

void cast(const CastArgs& args, Stream& /*stream*/) {
  constexpr std::int64_t kPiece = 4096;
  const Tensor& dst = args.dst;
  const Tensor& src = args.src;
  const auto at = [](const Tensor& tensor, std::int64_t index) {
    return static_cast<std::byte*>(tensor.data) +
           index * static_cast<std::int64_t>(size_of(tensor.dtype));
  };
#pragma omp parallel for schedule(static)
  for (std::int64_t begin = 0; begin < src.count(); begin += kPiece) {
    const std::int64_t count = std::min(kPiece, src.count() - begin);
    float values[kPiece];
    load_row(values, at(src, begin), src.dtype, count);
    store_row(at(dst, begin), values, dst.dtype, count);
  }
}

}  // namespace lockstep::cpu
