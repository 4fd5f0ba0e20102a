// One configuration key and the values it takes. A value arrives as text (command line) or as a
// typed TOML value; both pass through assign(), so both obey the same rule and the same messages.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace lockstep {

// What a key accepts beyond its type.
struct ValueRule {
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();

  double low = -kInfinity;
  double high = kInfinity;
  bool low_open = false;   // low itself is not allowed
  bool high_open = false;  // high itself is not allowed
  bool fp32 = false;       // used as fp32: 0 or a normal number there, in range when rounded
  std::vector<std::string> words{};  // text keys: the allowed words; empty allows any text
  bool or_number = false;            // a number within low..high is allowed beside the words
};
ValueRule at_least(double low);
ValueRule above(double low);
ValueRule within(double low, double high);
ValueRule below(double low, double high);  // low <= value < high
ValueRule as_fp32(ValueRule rule);         // the range holds for the rounded value
ValueRule one_of(std::vector<std::string> words);
ValueRule word_or_number(std::vector<std::string> words, ValueRule number);

// A value as TOML types it. An integer counts as a number, never the other way round.
using ConfigValue = std::variant<bool, std::int64_t, double, std::string, std::vector<std::string>>;

// An enum of the options: values[i] is called rule.words[i]. Made by choice().
struct Choice {
  void* target = nullptr;
  int (*get)(const void*) = nullptr;
  void (*set)(void*, int) = nullptr;
  std::vector<int> values{};
};

// The same, or a number. Made by choice_or_number().
struct ChoiceOrNumber {
  void* target = nullptr;
  std::optional<int> (*get_choice)(const void*) = nullptr;  // none: a number
  double (*get_number)(const void*) = nullptr;
  void (*set_choice)(void*, int) = nullptr;
  void (*set_number)(void*, double) = nullptr;
  std::vector<int> values{};
};

struct ConfigKey {
  using Target = std::variant<bool*, int*, std::int64_t*, std::uint64_t*, double*, std::string*,
                              std::vector<std::string>*, Choice, ChoiceOrNumber>;

  std::string section;
  std::string name;
  Target target;
  std::string description;  // one line, with the unit
  ValueRule rule;
  std::string default_value{};  // as TOML
  std::string source{};         // who set it ("small.toml:7:6", "command line"); "" for the default

  std::string full() const { return section + "." + name; }
};

// The enum at `target`, whose enumerators in this order are the words of the key's rule.
template <typename E>
Choice choice(E* target, std::initializer_list<E> enumerators) {
  Choice made{.target = target,
              .get = [](const void* at) { return static_cast<int>(*static_cast<const E*>(at)); },
              .set = [](void* at, int value) { *static_cast<E*>(at) = static_cast<E>(value); }};
  for (const E enumerator : enumerators) made.values.push_back(static_cast<int>(enumerator));
  return made;
}

template <typename E>
ChoiceOrNumber choice_or_number(std::variant<E, double>* target,
                                std::initializer_list<E> enumerators) {
  using Value = std::variant<E, double>;
  ChoiceOrNumber made{
      .target = target,
      .get_choice = [](const void* at) -> std::optional<int> {
        const auto* enumerator = std::get_if<E>(static_cast<const Value*>(at));
        return enumerator == nullptr ? std::nullopt : std::optional(static_cast<int>(*enumerator));
      },
      .get_number = [](const void* at) { return std::get<double>(*static_cast<const Value*>(at)); },
      .set_choice = [](void* at, int value) { *static_cast<Value*>(at) = static_cast<E>(value); },
      .set_number = [](void* at, double value) { *static_cast<Value*>(at) = value; }};
  for (const E enumerator : enumerators) made.values.push_back(static_cast<int>(enumerator));
  return made;
}

// "true or false", "a number > 0", "one of fp32, bf16, fp16": for errors, --help and the docs.
std::string expectation(const ConfigKey& key);
// The kind of value, in capitals, for --help.
std::string type_name(const ConfigKey& key);
// The key's present value as TOML; reading it back gives the same bits.
std::string to_toml(const ConfigKey& key);

// Command-line text as the value that the key's type reads from it; text that does not parse stays
// text, which assign() then rejects.
ConfigValue value_from_text(const ConfigKey& key, const std::string& text);

// Stores the value. Otherwise leaves the key alone and returns what was expected and what came
// ("expected a number > 0, got \"fast\"").
std::optional<std::string> assign(const ConfigKey& key, const ConfigValue& value);

}  // namespace lockstep
