// The rules of the schemes.
#include "compress/scheme.h"

#include "core/error.h"

namespace lockstep {

WeightFormat format_under(const std::string& scheme, WeightFormat plain,
                          const Parameter& parameter) {
  if (scheme == "none" || parameter.kind == ParameterKind::kVector) return plain;
  if (scheme == "q8_0") {
    const bool whole = parameter.shape.cols() % geometry_of(WeightFormat::kQ8_0).values == 0;
    return whole ? WeightFormat::kQ8_0 : WeightFormat::kF16;
  }
  CHECK(scheme == "w8a16" || scheme == "w8a8", "scheme {}", scheme);
  return parameter.kind == ParameterKind::kLinear ? WeightFormat::kInt8Rows : plain;
}

}  // namespace lockstep
