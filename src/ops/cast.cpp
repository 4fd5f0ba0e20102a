// Checks of the conversion.
#include "ops/cast.h"

#include "ops/check.h"

namespace lockstep::ops {

void cast(const Tensor& dst, const Tensor& src, Stream& stream) {
  check_storage("cast.dst", dst.dtype);
  check_storage("cast.src", src.dtype);
  check_vector("cast.dst", dst, src.count(), dst.dtype, stream);
  check_vector("cast.src", src, src.count(), src.dtype, stream);
  if (src.count() == 0) return;
  stream.kernels().cast({.dst = dst, .src = src}, stream);
}

}  // namespace lockstep::ops
