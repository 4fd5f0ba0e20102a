// Two tables, made at compile time: byte to code point, and code point (below 0x144) to byte.
#include "data/byte_alphabet.h"

#include "core/utf8.h"

namespace lockstep {
namespace {

constexpr std::size_t kLimit = 0x144;  // above the last character of the alphabet
constexpr std::uint16_t kNone = 256;

constexpr bool stands_for_itself(unsigned byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
}

constexpr std::array<char32_t, 256> make_characters() {
  std::array<char32_t, 256> characters{};
  char32_t next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    characters[byte] = stands_for_itself(byte) ? byte : next++;
  }
  return characters;
}
constexpr std::array<char32_t, 256> kCharacters = make_characters();

constexpr std::array<std::uint16_t, kLimit> make_bytes() {
  std::array<std::uint16_t, kLimit> bytes{};
  for (auto& byte : bytes) byte = kNone;
  for (unsigned byte = 0; byte < 256; ++byte) {
    bytes[kCharacters[byte]] = static_cast<std::uint16_t>(byte);
  }
  return bytes;
}
constexpr std::array<std::uint16_t, kLimit> kBytes = make_bytes();

}  // namespace

std::string to_alphabet(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) append_utf8(text, kCharacters[static_cast<unsigned char>(byte)]);
  return text;
}

bool from_alphabet(std::string& bytes, std::string_view text) {
  const std::size_t before = bytes.size();
  for (std::size_t pos = 0; pos < text.size();) {
    const CodePoint point = decode_utf8(text, pos);
    if (point.bytes == 0 || point.value >= kLimit || kBytes[point.value] == kNone) {
      bytes.resize(before);
      return false;
    }
    bytes += static_cast<char>(kBytes[point.value]);
    pos += point.bytes;
  }
  return true;
}

std::array<std::uint8_t, 256> alphabet_order() {
  std::array<std::uint8_t, 256> order{};
  std::size_t next = 0;
  for (const std::uint16_t byte : kBytes) {
    if (byte != kNone) order[next++] = static_cast<std::uint8_t>(byte);
  }
  return order;
}

}  // namespace lockstep
