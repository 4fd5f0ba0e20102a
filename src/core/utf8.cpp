// The decoder follows the table of well-formed byte sequences in the Unicode standard; ASCII is
// skipped eight bytes at a time.
#include "core/utf8.h"

#include <cstdint>
#include <cstring>

namespace lockstep {
namespace {

constexpr std::uint64_t kHighBits = 0x8080808080808080ULL;

// The continuation bytes a lead byte asks for; 0 for a byte that starts nothing.
std::size_t continuation_bytes(unsigned char lead) {
  if (lead >= 0xc2 && lead <= 0xdf) return 1;
  if (lead >= 0xe0 && lead <= 0xef) return 2;
  return lead >= 0xf0 && lead <= 0xf4 ? 3 : 0;
}

// Lowest value that needs so many continuation bytes.
constexpr char32_t kLowest[] = {0, 0x80, 0x800, 0x10000};

}  // namespace

CodePoint decode_utf8(std::string_view text, std::size_t pos) {
  if (pos >= text.size()) return {};
  const auto lead = static_cast<unsigned char>(text[pos]);
  if (lead < 0x80) return {lead, 1};
  const std::size_t more = continuation_bytes(lead);
  if (more == 0 || text.size() - pos <= more) return {};
  char32_t value = lead & (0x3fU >> more);
  for (std::size_t i = 1; i <= more; ++i) {
    const auto byte = static_cast<unsigned char>(text[pos + i]);
    if ((byte & 0xc0) != 0x80) return {};
    value = value << 6 | (byte & 0x3f);
  }
  const bool surrogate = value >= 0xd800 && value <= 0xdfff;
  if (value < kLowest[more] || value > 0x10ffff || surrogate) return {};
  return {value, more + 1};
}

void append_utf8(std::string& text, char32_t value) {
  if (value < 0x80) {
    text += static_cast<char>(value);
    return;
  }
  const int more = value < 0x800 ? 1 : value < 0x10000 ? 2 : 3;
  text += static_cast<char>((0xff00 >> (more + 1) & 0xff) | value >> (6 * more));
  for (int i = more - 1; i >= 0; --i) text += static_cast<char>(0x80 | (value >> (6 * i) & 0x3f));
}

std::size_t valid_stretch(std::string_view text, std::size_t from) {
  std::size_t pos = from;
  while (pos < text.size()) {
    std::uint64_t word = 0;
    while (text.size() - pos >= sizeof word) {
      std::memcpy(&word, text.data() + pos, sizeof word);
      if ((word & kHighBits) != 0) break;
      pos += sizeof word;
    }
    const CodePoint point = decode_utf8(text, pos);
    if (point.bytes == 0) break;
    pos += point.bytes;
  }
  return pos - from;
}

std::size_t invalid_stretch(std::string_view text, std::size_t from) {
  std::size_t pos = from;
  while (pos < text.size() && decode_utf8(text, pos).bytes == 0) ++pos;
  return pos - from;
}

}  // namespace lockstep
