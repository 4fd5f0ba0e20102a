// CRC-32C (Castagnoli), the checksum of every stored tensor range: computed from the bytes handed
// in, so it covers what happens between memory and disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace lockstep {

// The CRC of what `crc` covers followed by `data`; begin with 0.
std::uint32_t crc32c(std::uint32_t crc, std::span<const std::byte> data);

// The same by tables only, for machines without the instruction.
std::uint32_t crc32c_portable(std::uint32_t crc, std::span<const std::byte> data);

}  // namespace lockstep
