// From Oniguruma's (Ruby's) syntax to PCRE2's. Only what is known to mean the same passes through;
// character classes that differ are written out, everything else is refused by name.
#include "core/error.h"
#include "core/utf8.h"
#include "data/json_checks.h"
#include "data/regex.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace lockstep {
namespace {

// Unicode's White_Space; PCRE2's \s also holds U+180E.
constexpr std::string_view kSpace =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f})"
    R"(\x{205f}\x{3000})";
constexpr std::string_view kNotSpace =
    R"(\x{0}-\x{8}\x{e}-\x{1f}\x{21}-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff})"
    R"(\x{200b}-\x{2027}\x{202a}-\x{202e}\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff})";
// Oniguruma counts the fractions and superscripts of Latin-1 to words.
constexpr std::string_view kWord =
    R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";
constexpr std::string_view kGroups[] = {
    "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i:", "(?-i:"};

class Translator {
 public:
  Translator(std::string_view pattern, const std::string& origin)
      : pattern_(pattern), origin_(origin) {}

  std::string run() {
    while (pos_ < pattern_.size()) {
      const char c = pattern_[pos_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        class_character(c);
      } else if (c == '[') {
        open_class();
      } else if (c == '(') {
        group();
      } else if (c == '{') {
        interval();
      } else {
        copy(1);
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    fail(ExitCode::kData,
         "{}: '{}' in the regular expression '{}' is not supported; known are the "
         "patterns of GPT-2, Qwen2, Llama-3, DeepSeek-V3 and others of that kind",
         origin_, shown(what), shown(pattern_));
  }
  void copy(std::size_t count) {
    out_ += pattern_.substr(pos_, count);
    pos_ += count;
  }
  void replace(std::size_t count, std::string_view text) {
    out_ += text;
    pos_ += count;
  }
  // In a class the members alone, else a class of them.
  void members(std::string_view inside, bool negated) {
    if (in_class_) return replace(2, inside);
    replace(2, negated ? fmt::format("[^{}]", inside) : fmt::format("[{}]", inside));
  }

  void escape() {
    if (pos_ + 1 >= pattern_.size()) refuse("\\");
    const char c = pattern_[pos_ + 1];
    switch (c) {
      case 's': return members(kSpace, false);
      case 'S': return in_class_ ? replace(2, kNotSpace) : members(kSpace, true);
      case 'w': return members(kWord, false);
      case 'W': return in_class_ ? refuse("\\W in a class") : members(kWord, true);
      case 'd': return replace(2, R"(\p{Nd})");
      case 'D': return replace(2, R"(\P{Nd})");
      case 'v': return replace(2, R"(\x{b})");
      case 'p':
      case 'P': return property();
      case 'x':
      case 'u': return code_point();
      case 'r':
      case 'n':
      case 't':
      case 'f':
      case 'a':
      case 'e': return copy(2);
      case 'A':
      case 'z': return in_class_ ? refuse(pattern_.substr(pos_, 2)) : copy(2);
      default: break;
    }
    if (std::ispunct(static_cast<unsigned char>(c)) == 0 && c != ' ') {
      refuse(pattern_.substr(pos_, 2));
    }
    copy(2);
  }

  // \p{L}, \p{^L}, \p{Lu}: general categories; any longer name is a script.
  void property() {
    const std::size_t close = pattern_.find('}', pos_);
    if (close == std::string_view::npos || pattern_[pos_ + 2] != '{') refuse("\\p without {...}");
    const std::string_view whole = pattern_.substr(pos_, close + 1 - pos_);
    std::string_view name = whole.substr(3, whole.size() - 4);
    bool negated = whole[1] == 'P';
    if (!name.empty() && name[0] == '^') {
      negated = !negated;
      name.remove_prefix(1);
    }
    if (name.empty() || !std::all_of(name.begin(), name.end(), [](unsigned char c) {
          return std::isalpha(c) != 0 || c == '_';
        })) {
      refuse(whole);
    }
    replace(whole.size(),
            fmt::format("\\{}{{{}{}}}", negated ? 'P' : 'p', name.size() > 2 ? "sc:" : "", name));
  }

  // \xHH, \x{H...}, \uHHHH.
  void code_point() {
    std::size_t first = pos_ + 2;
    std::size_t last = first;
    const auto is_hex = [&](std::size_t at) {
      return at < pattern_.size() && std::isxdigit(static_cast<unsigned char>(pattern_[at])) != 0;
    };
    const bool braces =
        pattern_[pos_ + 1] == 'x' && first < pattern_.size() && pattern_[first] == '{';
    if (braces) last = ++first;
    const std::size_t most = braces ? 8 : pattern_[pos_ + 1] == 'x' ? 2 : 4;
    while (last - first < most && is_hex(last)) ++last;
    const std::string_view digits = pattern_.substr(first, last - first);
    const bool closed = !braces || (last < pattern_.size() && pattern_[last] == '}');
    // Two digits alone are a byte, not a character.
    const bool byte = most == 2 && (digits.size() != 2 || digits[0] > '7');
    if (digits.empty() || !closed || byte || (most == 4 && digits.size() != 4)) {
      refuse(pattern_.substr(pos_, last - pos_));
    }
    replace(last + (braces ? 1 : 0) - pos_, fmt::format("\\x{{{}}}", digits));
  }

  void open_class() {
    in_class_ = true;
    copy(1);
    if (pos_ < pattern_.size() && pattern_[pos_] == '^') copy(1);
    if (pos_ < pattern_.size() && pattern_[pos_] == ']') refuse("[] or [^]");
  }

  void class_character(char c) {
    if (c == '[') refuse("[ in a class");
    if (pattern_.substr(pos_, 2) == "&&") refuse("&& in a class");
    if (c == ']') in_class_ = false;
    copy(1);
  }

  void group() {
    const std::string_view rest = pattern_.substr(pos_);
    if (rest.size() > 1 && (rest[1] == '?' || rest[1] == '*')) {
      for (const std::string_view known : kGroups) {
        if (rest.substr(0, known.size()) == known) return copy(known.size());
      }
      refuse(rest.substr(0, 3));
    }
    copy(1);
  }

  // {n}, {n,}, {n,m}; what follows may change its meaning, differently in the two.
  void interval() {
    const std::size_t close = pattern_.find('}', pos_);
    if (close == std::string_view::npos) refuse("{ without }");
    const std::string_view whole = pattern_.substr(pos_, close + 1 - pos_);
    const std::string_view body = whole.substr(1, whole.size() - 2);
    const bool plain = !body.empty() && std::isdigit(static_cast<unsigned char>(body[0])) != 0 &&
                       std::all_of(body.begin(), body.end(), [](unsigned char c) {
                         return std::isdigit(c) != 0 || c == ',';
                       });
    const char after = close + 1 < pattern_.size() ? pattern_[close + 1] : ' ';
    if (!plain || after == '+' || after == '?' || after == '*') {
      refuse(pattern_.substr(pos_, whole.size() + 1));
    }
    copy(whole.size());
  }

  std::string_view pattern_;
  const std::string& origin_;
  std::string out_;
  std::size_t pos_ = 0;
  bool in_class_ = false;
};

}  // namespace

std::string translate_regex(std::string_view pattern, const std::string& origin) {
  if (valid_stretch(pattern, 0) != pattern.size()) {
    fail(ExitCode::kData, "{}: a regular expression is not UTF-8", origin);
  }
  return Translator(pattern, origin).run();
}

}  // namespace lockstep
