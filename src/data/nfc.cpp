// Segments that may change go through utf8proc one at a time, so that the text between them costs
// a scan only.
#include "data/nfc.h"

#include "core/error.h"
#include "core/utf8.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <utility>

namespace lockstep {
namespace {

// Ranges of stable characters above the Latin ones: Cyrillic, kana, Han, Hangul syllables, emoji.
constexpr std::array<std::pair<char32_t, char32_t>, 7> kStable = {{{0x400, 0x482},
                                                                   {0x3001, 0x3029},
                                                                   {0x3041, 0x3096},
                                                                   {0x30a1, 0x30fa},
                                                                   {0x4e00, 0x9fff},
                                                                   {0xac00, 0xd7a3},
                                                                   {0x1f300, 0x1faff}}};

void append_normal(std::string& out, std::string_view segment) {
  utf8proc_uint8_t* normal = nullptr;
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  const auto size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(segment.data()),
                                 static_cast<utf8proc_ssize_t>(segment.size()), &normal, options);
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(normal, &std::free);
  CHECK(size >= 0, "utf8proc: {}", utf8proc_errmsg(size));
  out.append(reinterpret_cast<const char*>(normal), static_cast<std::size_t>(size));
}

// The next character at or after `pos` that is not ASCII, or the end.
std::size_t skip_ascii(std::string_view text, std::size_t pos) {
  while (pos < text.size() && static_cast<unsigned char>(text[pos]) < 0x80) ++pos;
  return pos;
}

}  // namespace

bool starts_segment(char32_t character) {
  if (character < 0x300) return true;
  return std::any_of(kStable.begin(), kStable.end(), [&](const auto& range) {
    return character >= range.first && character <= range.second;
  });
}

std::string_view nfc(std::string_view text, std::string& buffer) {
  std::size_t copied = 0;   // text before it is in `buffer`, if anything changed
  std::size_t segment = 0;  // where the segment of the character before `pos` starts
  bool changed = false;
  std::size_t pos = 0;
  while (pos < text.size()) {
    const std::size_t next = skip_ascii(text, pos);
    if (next > pos) segment = next - 1;
    if (next == text.size()) break;
    pos = next;
    CodePoint point = decode_utf8(text, pos);
    if (starts_segment(point.value)) {
      segment = pos;
      pos += point.bytes;
      continue;
    }
    while (pos < text.size() && !starts_segment(point.value)) {
      pos += point.bytes;
      point = decode_utf8(text, pos);
    }
    if (!changed) buffer.clear();
    changed = true;
    buffer.append(text, copied, segment - copied);
    append_normal(buffer, text.substr(segment, pos - segment));
    copied = pos;
    segment = pos;
  }
  if (!changed) return text;
  buffer.append(text, copied, text.size() - copied);
  return buffer;
}

}  // namespace lockstep
