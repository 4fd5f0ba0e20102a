// Looking for values that are no numbers, by their bits: no library call, and compilers vectorise
// it.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace lockstep {

// Index of the first NaN or infinity; values.size() when there is none.
inline std::size_t first_not_finite(std::span<const float> values) {
  constexpr std::uint32_t kExponent = 0x7f800000u;
  constexpr std::size_t kBlock = 4096;
  const auto is_bad = [&](std::size_t i) {
    return (std::bit_cast<std::uint32_t>(values[i]) & kExponent) == kExponent;
  };
  for (std::size_t begin = 0; begin < values.size(); begin += kBlock) {
    const std::size_t end = begin + kBlock < values.size() ? begin + kBlock : values.size();
    bool any = false;
    for (std::size_t i = begin; i < end; ++i) any |= is_bad(i);
    for (std::size_t i = begin; any && i < end; ++i) {
      if (is_bad(i)) return i;
    }
  }
  return values.size();
}

}  // namespace lockstep
