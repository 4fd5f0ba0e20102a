// In UTF-16 every ASCII character brings a zero byte. In Latin-1 letters with accents are single
// bytes above 0x7f between ASCII, which is no UTF-8 nearly always.
#include "data/encoding.h"

#include "core/utf8.h"

#include <algorithm>

namespace lockstep {
namespace {

// A damaged character in 10,000 bytes may happen to UTF-8.
constexpr std::size_t kBytesPerDamage = 10000;

struct Counts {
  std::size_t high = 0;  // bytes above 0x7f
  std::size_t bad = 0;   // of these, such that no valid character holds them
};

Counts count_bytes(std::string_view text) {
  Counts counts;
  for (const char c : text) counts.high += (static_cast<unsigned char>(c) & 0x80) != 0;
  for (std::size_t pos = 0; (pos += valid_stretch(text, pos)) < text.size();) {
    const std::size_t bad = invalid_stretch(text, pos);
    if (pos + bad == text.size() && bad < 4) break;  // a character that the sample cuts
    counts.bad += bad;
    pos += bad;
  }
  return counts;
}

}  // namespace

std::string_view guess_encoding(std::string_view sample) {
  using namespace std::string_view_literals;
  sample = sample.substr(0, kEncodingSample);
  if (sample.starts_with("\xff\xfe\0\0"sv) || sample.starts_with("\0\0\xfe\xff"sv)) return "UTF-32";
  if (sample.starts_with("\xff\xfe"sv) || sample.starts_with("\xfe\xff"sv)) return "UTF-16";
  std::size_t zeros[2] = {0, 0};  // at even and at odd places
  for (std::size_t at = 0; at < sample.size(); ++at) zeros[at % 2] += sample[at] == '\0';
  if (std::max(zeros[0], zeros[1]) * 3 > sample.size()) {
    return zeros[0] > zeros[1] ? "UTF-16BE" : "UTF-16LE";
  }
  const Counts counts = count_bytes(sample);
  const bool often = counts.bad * kBytesPerDamage >= sample.size();
  return counts.bad > 0 && often && counts.bad * 2 > counts.high ? "WINDOWS-1252" : "UTF-8";
}

}  // namespace lockstep
