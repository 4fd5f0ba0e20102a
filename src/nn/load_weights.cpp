// A piece at a time, as ParameterSet::load asks for them; each is looked at once before it counts.
#include "nn/load_weights.h"

#include "core/error.h"
#include "core/finite.h"

#include <cmath>

namespace lockstep {
namespace {

// From here on a value rounds to infinity.
float limit_of(DType dtype) {
  if (dtype == DType::kF16) return 65520.0f;
  return dtype == DType::kBF16 ? 0x1.ffp127f : HUGE_VALF;
}

void require_in_range(std::span<const float> values, DType dtype, const std::string& origin,
                      const std::string& tensor) {
  const std::size_t at = first_beyond(values, limit_of(dtype));
  if (at == values.size()) return;
  fail(ExitCode::kData, "{}: tensor {} holds {:g}, beyond the range of {}; compute in {}", origin,
       tensor, values[at], name_of(dtype), dtype == DType::kF16 ? "bf16 or fp32" : "fp32");
}

}  // namespace

void load_weights(ParameterSet& parameters, WeightSource& source, const std::string& origin,
                  Stream& stream, const Progress& progress) {
  const DType dtype = parameters.compute_dtype();
  const ReadRows read = [&](const std::string& name, std::int64_t row, std::span<float> out) {
    source.read(name, row, out);
    require_finite(out, origin, name);
    if (dtype != DType::kF32) require_in_range(out, dtype, origin, name);
    report(progress);
  };
  parameters.load(read, stream);
}

}  // namespace lockstep
