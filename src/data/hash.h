// Hash128: a 128-bit hash for telling contents apart (accidents, not attackers), the same on every
// machine. Davies-Meyer over Philox: each 64-bit word of input is the key that stirs the state.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace lockstep {

class Hash128 {
 public:
  // The result depends on the bytes and on how they are cut into calls to add().
  void add(std::span<const std::byte> bytes);
  void add(std::string_view text) { add(std::as_bytes(std::span(text))); }
  void add(std::int64_t value);

  std::uint64_t low() const { return low_; }
  std::string hex() const;  // 32 digits

 private:
  void stir(std::uint64_t word);

  std::uint64_t low_ = 0x243f6a8885a308d3ull;  // pi, so that nothing is hidden in the constants
  std::uint64_t high_ = 0x13198a2e03707344ull;
};

}  // namespace lockstep
