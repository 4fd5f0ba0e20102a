// Whole blocks are asked at once, without a branch per value, so that the check costs less than
// reading the values does.
#include "core/finite.h"

#include "core/error.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace lockstep {
namespace {

constexpr std::size_t kBlock = 4096;

// Without its sign a float's bits order as its magnitude does, NaN above infinity.
std::uint32_t magnitude(float value) { return std::bit_cast<std::uint32_t>(value) & 0x7fffffffu; }

}  // namespace

std::size_t first_beyond(std::span<const float> values, float limit) {
  const std::uint32_t bound = magnitude(limit);
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
    const auto block = values.subspan(begin, std::min(kBlock, values.size() - begin));
    std::uint32_t largest = 0;
    for (const float value : block) largest = std::max(largest, magnitude(value));
    if (largest < bound) continue;
    const auto at = std::find_if(block.begin(), block.end(),
                                 [bound](float value) { return magnitude(value) >= bound; });
    return begin + static_cast<std::size_t>(at - block.begin());
  }
  return values.size();
}

std::size_t first_not_finite(std::span<const float> values) {
  return first_beyond(values, std::numeric_limits<float>::infinity());
}

void require_finite(std::span<const float> values, const std::string& origin,
                    const std::string& tensor) {
  const std::size_t at = first_not_finite(values);
  if (at == values.size()) return;
  fail(ExitCode::kData,
       "{}: tensor {} holds {}: the model is broken; take an earlier checkpoint, or fetch the file "
       "again",
       origin, tensor, std::isnan(values[at]) ? "NaN" : "infinity");
}

}  // namespace lockstep
