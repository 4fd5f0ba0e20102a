// One pass that knows strings, escapes and the characters of numbers, nothing else of the grammar.
#include "data/json_relax.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

namespace lockstep {
namespace {

constexpr std::array<std::string_view, 3> kWords = {"NaN", "Infinity", "-Infinity"};

// The length of the number at the beginning of `text`, as JSON spells numbers; 0 if there is none.
std::size_t number_length(std::string_view text) {
  std::size_t pos = 0;
  const auto digits = [&] {
    const std::size_t from = pos;
    while (pos < text.size() && std::isdigit(static_cast<unsigned char>(text[pos])) != 0) ++pos;
    return pos - from;
  };
  const auto skip = [&](std::string_view any) {
    const bool there = pos < text.size() && any.find(text[pos]) != std::string_view::npos;
    if (there) ++pos;
    return there;
  };
  skip("-");
  const std::size_t first = pos;
  const std::size_t whole = digits();
  if (whole == 0 || (whole > 1 && text[first] == '0')) return 0;
  if (skip(".") && digits() == 0) return 0;
  if (skip("eE")) {
    skip("+-");
    if (digits() == 0) return 0;
  }
  return pos;
}

// The code unit of "\uXXXX" at the beginning of `text`, or -1.
int code_unit(std::string_view text) {
  unsigned value = 0;
  if (text.size() < 6 || !text.starts_with("\\u")) return -1;
  const char* const end = text.data() + 6;
  return std::from_chars(text.data() + 2, end, value, 16).ptr == end ? static_cast<int>(value) : -1;
}

bool is_high(int unit) { return unit >= 0xd800 && unit < 0xdc00; }
bool is_low(int unit) { return unit >= 0xdc00 && unit < 0xe000; }

class Relaxer {
 public:
  Relaxer(std::string_view line, std::string_view surrogate) : rest_(line), surrogate_(surrogate) {}

  std::string run() {
    while (!rest_.empty()) {
      if (rest_[0] == '"') {
        string();
      } else if (const std::size_t length = value_length(); length > 0) {
        out_.append(1, '0').append(length - 1, ' ');
        rest_.remove_prefix(length);
      } else {
        copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  void copy(std::size_t count) {
    out_ += rest_.substr(0, count);
    rest_.remove_prefix(std::min(count, rest_.size()));
  }
  std::size_t value_length() const {
    for (const std::string_view word : kWords) {
      if (rest_.starts_with(word)) return word.size();
    }
    return number_length(rest_);
  }
  void string() {
    copy(1);
    while (!rest_.empty() && rest_[0] != '"') {
      if (rest_[0] == '\\') {
        escape();
      } else {
        copy(std::min(rest_.find_first_of("\\\""), rest_.size()));
      }
    }
    copy(1);
  }
  void escape() {
    const int unit = code_unit(rest_);
    if (is_high(unit) && is_low(code_unit(rest_.substr(6)))) {
      copy(12);
    } else if (is_high(unit) || is_low(unit)) {
      out_ += surrogate_;
      rest_.remove_prefix(6);
    } else {
      copy(2);
    }
  }

  std::string_view rest_;
  std::string_view surrogate_;
  std::string out_;
};

}  // namespace

std::string relaxed_json(std::string_view line, std::string_view surrogate) {
  return Relaxer(line, surrogate).run();
}

}  // namespace lockstep
