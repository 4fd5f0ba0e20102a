// Words are taken little-endian; a short last word is filled with zeros and the length follows, so
// "a" and "a\0" differ.
#include "data/hash.h"

#include "core/rng.h"

#include <fmt/core.h>

#include <bit>
#include <cstring>

namespace lockstep {

static_assert(std::endian::native == std::endian::little);

void Hash128::stir(std::uint64_t word) {
  const auto mixed = philox(word, low_, high_);
  low_ ^= (std::uint64_t{mixed[1]} << 32) | mixed[0];
  high_ ^= (std::uint64_t{mixed[3]} << 32) | mixed[2];
}

void Hash128::add(std::span<const std::byte> bytes) {
  for (std::size_t at = 0; at < bytes.size(); at += sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, std::min(sizeof word, bytes.size() - at));
    stir(word);
  }
  stir(bytes.size());
}

void Hash128::add(std::int64_t value) { stir(static_cast<std::uint64_t>(value)); }

std::string Hash128::hex() const { return fmt::format("{:016x}{:016x}", high_, low_); }

}  // namespace lockstep
