// CRC-32C by SSE4.2's instruction where the processor has it, else by eight tables that take eight
// bytes at a time. Reflected polynomial 0x82f63b78; initial and final value inverted.
#include "io/crc32c.h"

#include <array>
#include <bit>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace lockstep {
namespace {

static_assert(std::endian::native == std::endian::little);

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

// tables[k][b]: the effect of byte b followed by k zero bytes.
constexpr Tables make_tables() {
  Tables tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0x82f63b78u : 0u);
    tables[0][byte] = crc;
  }
  for (std::size_t k = 1; k < 8; ++k) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
      const std::uint32_t crc = tables[k - 1][byte];
      tables[k][byte] = (crc >> 8) ^ tables[0][crc & 0xffu];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

std::uint64_t load64(const std::byte* data) {
  std::uint64_t word = 0;
  std::memcpy(&word, data, sizeof word);
  return word;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) std::uint32_t crc32c_sse42(std::uint32_t crc,
                                                             std::span<const std::byte> data) {
  std::uint64_t state = ~crc;
  for (; data.size() >= 8; data = data.subspan(8)) {
    state = _mm_crc32_u64(state, load64(data.data()));
  }
  auto narrow = static_cast<std::uint32_t>(state);
  for (const std::byte byte : data) {
    narrow = _mm_crc32_u8(narrow, std::to_integer<std::uint8_t>(byte));
  }
  return ~narrow;
}

bool has_instruction() { return __builtin_cpu_supports("sse4.2"); }
#else
std::uint32_t crc32c_sse42(std::uint32_t crc, std::span<const std::byte> data) {
  return crc32c_portable(crc, data);
}

bool has_instruction() { return false; }
#endif

}  // namespace

std::uint32_t crc32c_portable(std::uint32_t crc, std::span<const std::byte> data) {
  std::uint32_t state = ~crc;
  for (; data.size() >= 8; data = data.subspan(8)) {
    const std::uint64_t word = load64(data.data()) ^ state;
    state = 0;
    for (std::size_t k = 0; k < 8; ++k) state ^= kTables[7 - k][(word >> (8 * k)) & 0xffu];
  }
  for (const std::byte byte : data) {
    state = (state >> 8) ^ kTables[0][(state ^ std::to_integer<std::uint32_t>(byte)) & 0xffu];
  }
  return ~state;
}

std::uint32_t crc32c(std::uint32_t crc, std::span<const std::byte> data) {
  return has_instruction() ? crc32c_sse42(crc, data) : crc32c_portable(crc, data);
}

}  // namespace lockstep
