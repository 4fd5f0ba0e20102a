// Parsing, checking and printing of single configuration values.
#include "app/config_value.h"

#include "core/error.h"
#include "core/shell_quote.h"
#include "core/utf8.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>

namespace lockstep {
namespace {

// True if the whole of `text` is one number of T's kind.
template <typename T>
bool parse_number(const std::string& text, T& value) {
  const char* begin = text.data();
  const char* end = begin + text.size();
  if (begin != end && *begin == '+') ++begin;
  const auto [stop, error] = std::from_chars(begin, end, value);
  return error == std::errc() && stop == end;
}

// The shortest decimal that reads back to the same bits, and that TOML takes for a float.
std::string float_text(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".eni") == std::string::npos) text += ".0";
  return text;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\u{:04X}", byte);
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string list_text(const std::vector<std::string>& list) {
  std::string out = "[";
  for (const std::string& item : list) {
    if (out.size() > 1) out += ", ";
    out += quoted(item);
  }
  return out + "]";
}

std::string describe(const ConfigValue& value) {
  struct Describe {
    std::string operator()(bool v) const { return v ? "true" : "false"; }
    std::string operator()(std::int64_t v) const { return fmt::format("{}", v); }
    std::string operator()(double v) const { return float_text(v); }
    std::string operator()(const std::string& v) const { return quoted(v); }
    std::string operator()(const std::vector<std::string>& v) const { return list_text(v); }
  };
  return std::visit(Describe{}, value);
}

// The dump must be valid TOML, which is UTF-8: text that is not could be set but never reloaded.
bool valid_utf8(const std::string& text) { return valid_stretch(text, 0) == text.size(); }

bool in_fp64_range(const ValueRule& rule, double value) {
  return std::isfinite(value) && (rule.high_open ? value < rule.high : value <= rule.high) &&
         (rule.low_open ? value > rule.low : value >= rule.low);
}

bool in_range(const ValueRule& rule, double value) {
  if (rule.fp32) {
    const double size = std::abs(value);
    if (size > std::numeric_limits<float>::max()) return false;
    if (size > 0.0 && size < std::numeric_limits<float>::min()) return false;
    value = static_cast<float>(value);
  }
  return in_fp64_range(rule, value);
}

// The number that a value is or spells.
bool is_number(const ConfigValue& value, double& number) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) {
    number = static_cast<double>(*integer);
    return true;
  }
  if (const auto* real = std::get_if<double>(&value)) {
    number = *real;
    return true;
  }
  const auto* text = std::get_if<std::string>(&value);
  return text != nullptr && parse_number(*text, number);
}

// 2147483647, not 2.147483647e+09.
std::string plain(double bound) {
  return bound == std::floor(bound) && std::abs(bound) < 1e15 ? fmt::format("{:.0f}", bound)
                                                              : fmt::format("{}", bound);
}

std::string range_text(const ValueRule& rule) {
  const bool has_low = std::isfinite(rule.low);
  if (has_low && std::isfinite(rule.high) && !rule.low_open && !rule.high_open) {
    return fmt::format(" from {} to {}", plain(rule.low), plain(rule.high));
  }
  std::string text;
  if (has_low) text = fmt::format(" {} {}", rule.low_open ? ">" : ">=", plain(rule.low));
  if (std::isfinite(rule.high)) {
    text += fmt::format("{} {} {}", text.empty() ? "" : " and",
                        rule.high_open ? "<" : "<=", plain(rule.high));
  }
  return text;
}

// Stores `value` into the target it was made for; false when type or rule says no.
struct Store {
  const ConfigValue& value;
  const ValueRule& rule;

  bool operator()(bool* target) const {
    if (!std::holds_alternative<bool>(value)) return false;
    *target = std::get<bool>(value);
    return true;
  }
  template <typename T>
  bool operator()(T* target) const {
    const auto* integer = std::get_if<std::int64_t>(&value);
    if (integer == nullptr || !in_range(rule, static_cast<double>(*integer))) return false;
    if constexpr (sizeof(T) < sizeof(std::int64_t)) {
      if (*integer > std::numeric_limits<T>::max()) return false;
      if (*integer < std::numeric_limits<T>::min()) return false;
    }
    *target = static_cast<T>(*integer);
    return true;
  }
  bool operator()(double* target) const {
    double number = 0.0;
    if (const auto* integer = std::get_if<std::int64_t>(&value)) {
      number = static_cast<double>(*integer);
    } else if (const auto* real = std::get_if<double>(&value)) {
      number = *real;
    } else {
      return false;
    }
    if (!in_range(rule, number)) return false;
    *target = number;
    return true;
  }
  // Words such as "true" or "30" may also come as the TOML boolean or number they spell.
  bool operator()(std::string* target) const {
    std::string text;
    if (const auto* given = std::get_if<std::string>(&value)) {
      text = *given;
    } else if (rule.words.empty() || std::holds_alternative<std::vector<std::string>>(value)) {
      return false;
    } else if (const auto* real = std::get_if<double>(&value)) {
      text = fmt::format("{}", *real);
    } else {
      text = describe(value);
    }
    if (!allowed(text)) return false;
    *target = text;
    return true;
  }
  bool operator()(const Choice& choice) const {
    const auto* text = std::get_if<std::string>(&value);
    if (text == nullptr) return false;
    const auto word = std::find(rule.words.begin(), rule.words.end(), *text);
    if (word == rule.words.end()) return false;
    choice.set(choice.target, choice.values[static_cast<std::size_t>(word - rule.words.begin())]);
    return true;
  }
  bool operator()(const ChoiceOrNumber& choice) const {
    if ((*this)(Choice{choice.target, nullptr, choice.set_choice, choice.values})) return true;
    double number = 0.0;
    if (!is_number(value, number) || !in_range(rule, number)) return false;
    choice.set_number(choice.target, number);
    return true;
  }
  bool operator()(std::vector<std::string>* target) const {
    const auto* list = std::get_if<std::vector<std::string>>(&value);
    const auto* text = std::get_if<std::string>(&value);
    if (list == nullptr && text == nullptr) return false;
    std::vector<std::string> items = list != nullptr ? *list : split_list(*text);
    if (!std::all_of(items.begin(), items.end(), valid_utf8)) return false;
    *target = std::move(items);
    return true;
  }

  bool allowed(const std::string& text) const {
    if (rule.words.empty()) return valid_utf8(text);
    return std::find(rule.words.begin(), rule.words.end(), text) != rule.words.end();
  }
};

std::string words_text(const ValueRule& rule) {
  std::string out;
  for (const std::string& word : rule.words) {
    if (!out.empty()) out += ", ";
    out += word.empty() ? "\"\"" : word;
  }
  if (rule.or_number) return out + " or a number" + range_text(rule);
  return (rule.words.size() == 1 ? "" : "one of ") + out;
}

}  // namespace

ValueRule at_least(double low) { return {.low = low}; }
ValueRule above(double low) { return {.low = low, .low_open = true}; }
ValueRule within(double low, double high) { return {.low = low, .high = high}; }
ValueRule below(double low, double high) { return {.low = low, .high = high, .high_open = true}; }
ValueRule as_fp32(ValueRule rule) {
  rule.fp32 = true;
  return rule;
}
ValueRule one_of(std::vector<std::string> words) { return {.words = std::move(words)}; }
ValueRule word_or_number(std::vector<std::string> words, ValueRule number) {
  number.words = std::move(words);
  number.or_number = true;
  return number;
}

std::string expectation(const ConfigKey& key) {
  struct Expect {
    const ValueRule& rule;
    std::string operator()(const bool*) const { return "true or false"; }
    std::string operator()(const double*) const { return "a number" + range_text(rule); }
    std::string operator()(const std::string*) const {
      return rule.words.empty() ? "text (UTF-8)" : words_text(rule);
    }
    std::string operator()(const std::vector<std::string>*) const {
      return "a list of texts (UTF-8)";
    }
    std::string operator()(const Choice&) const { return words_text(rule); }
    std::string operator()(const ChoiceOrNumber&) const { return words_text(rule); }
    std::string operator()(const void*) const { return "a whole number" + range_text(rule); }
  };
  return std::visit(Expect{key.rule}, key.target);
}

std::string type_name(const ConfigKey& key) {
  struct Name {
    std::string operator()(const bool*) const { return "BOOL"; }
    std::string operator()(const double*) const { return "NUMBER"; }
    std::string operator()(const std::string*) const { return "TEXT"; }
    std::string operator()(const std::vector<std::string>*) const { return "LIST"; }
    std::string operator()(const Choice&) const { return "TEXT"; }
    std::string operator()(const ChoiceOrNumber&) const { return "TEXT"; }
    std::string operator()(const void*) const { return "INT"; }
  };
  return std::visit(Name{}, key.target);
}

std::string to_toml(const ConfigKey& key) {
  struct Print {
    const ValueRule& rule;
    std::string operator()(const bool* v) const { return *v ? "true" : "false"; }
    std::string operator()(const int* v) const { return fmt::format("{}", *v); }
    std::string operator()(const std::int64_t* v) const { return fmt::format("{}", *v); }
    std::string operator()(const std::uint64_t* v) const { return fmt::format("{}", *v); }
    std::string operator()(const double* v) const { return float_text(*v); }
    std::string operator()(const std::string* v) const { return quoted(*v); }
    std::string operator()(const std::vector<std::string>* v) const { return list_text(*v); }
    std::string operator()(const Choice& v) const { return word(v.values, v.get(v.target)); }
    std::string operator()(const ChoiceOrNumber& v) const {
      const std::optional<int> chosen = v.get_choice(v.target);
      return chosen ? word(v.values, *chosen) : quoted(fmt::format("{}", v.get_number(v.target)));
    }
    std::string word(const std::vector<int>& values, int value) const {
      const auto at = std::find(values.begin(), values.end(), value);
      CHECK(at != values.end(), "enumerator {}", value);
      return quoted(rule.words[static_cast<std::size_t>(at - values.begin())]);
    }
  };
  return std::visit(Print{key.rule}, key.target);
}

ConfigValue value_from_text(const ConfigKey& key, const std::string& text) {
  if (std::holds_alternative<bool*>(key.target)) {
    if (text == "true") return true;
    if (text == "false") return false;
    return text;
  }
  if (std::holds_alternative<std::string*>(key.target)) return text;
  if (std::holds_alternative<Choice>(key.target)) return text;
  if (std::holds_alternative<ChoiceOrNumber>(key.target)) return text;
  if (std::holds_alternative<std::vector<std::string>*>(key.target)) return split_list(text);
  if (std::int64_t integer = 0; parse_number(text, integer)) return integer;
  double number = 0.0;
  if (std::holds_alternative<double*>(key.target) && parse_number(text, number)) return number;
  return text;
}

std::optional<std::string> assign(const ConfigKey& key, const ConfigValue& value) {
  if (std::visit(Store{value, key.rule}, key.target)) return std::nullopt;
  std::string hint;
  const auto* text = std::get_if<std::string>(&value);
  if (text != nullptr && !key.rule.words.empty()) {
    const std::string near = nearest(*text, key.rule.words);
    if (!near.empty()) hint = fmt::format("; did you mean {}?", near);
  }
  if (double number = 0.0;
      key.rule.fp32 && is_number(value, number) && in_fp64_range(key.rule, number)) {
    hint = fmt::format("; it is used as fp32, whose numbers are 0 and {:.2g} to {:.2g}",
                       std::numeric_limits<float>::min(), std::numeric_limits<float>::max());
  }
  return fmt::format("expected {}, got {}{}", expectation(key), describe(value), hint);
}

}  // namespace lockstep
