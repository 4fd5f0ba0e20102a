// The pre-tokenizers that published models use, as their tokenizer.json files have them. Patterns
// are facts of those files: a different one splits text differently and spoils a vocabulary.
#include "core/error.h"
#include "data/pre_tokenizer.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <iterator>

namespace lockstep {
namespace {

using nlohmann::json;

// Where a text may be cut so that both sides are split as the whole is: between two characters of
// these kinds a piece ends, whatever stands around them.
const std::string kEverywhere = R"(\A(?:\p{L}[^\p{L}\p{M}]|\p{N}[^\p{N}\p{M}]))";
// Where a contraction belongs to the word before it.
const std::string kNotContracted = R"(\A(?:\p{L}[^\p{L}\p{M}']|\p{N}[^\p{N}\p{M}]))";
const std::string kNowhere;  // pieces may hold several words

struct Known {
  std::string name;
  std::vector<std::string> splits;  // one after the other, each isolating its matches
  bool words = false;               // and then GPT-2's words
  bool composes = false;            // the files that use it normalize to form C
  // One pattern that matches every character, so that keeping the matches and removing the gaps is
  // the same as isolating the matches.
  bool covers = false;
  std::string boundary = kEverywhere;
};

// Pieces of the patterns: contractions, a character before a word, letters by case, ends.
const std::string kShort = R"((?i:'s|'t|'re|'ve|'m|'ll|'d))";
const std::string kLead = R"([^\r\n\p{L}\p{N}]?)";
const std::string kUpper = R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])";
const std::string kLower = R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])";
const std::string kSpaces = R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
const std::string kMarks = R"(| ?[^\s\p{L}\p{N}]+[\r\n]*)";
const std::string kMarksOrSlash = R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*)";
const std::string kWords =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
const std::string kLatinOrMarks =
    "[!\"#$%&'()*+,\\-./"
    ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";
// Han and kana, as characters: so DeepSeek-V3's file has them.
const std::string kHanAndKana =
    "[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+";
const std::string kHanAndHangul = R"([\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+)";
// Punctuation of DeepSeek's first models: ASCII, its full-width forms, quotes, ideographic marks.
const std::string kWideMarks =
    R"(\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+)";
// Words of BLOOM: all but brackets, bars, spaces and the marks that end sentences in many scripts.
const std::string kUnbroken =
    R"( ?[^(\s|.,!?\x{2026}\x{3002}\x{ff0c}\x{3001}\x{964}\x{6d4}\x{60c})]+)";
const std::string kAsianScripts =
    R"([\x{4e00}-\x{9fff}\x{3400}-\x{4dbf}\x{f900}-\x{faff}\x{3040}-\x{30ff}\x{ff65}-\x{ff9f})"
    R"(\x{2f00}-\x{2fdf}\x{e40}-\x{eff}\x{1780}-\x{17ff}\x{1000}-\x{109f}\x{aa60}-\x{aa7f})"
    R"(\x{a9e0}-\x{a9ff}\x{ac00}-\x{d7af}\x{1100}-\x{11ff}]+)";
const std::string kScriptsOfYoutu =
    R"([\x{ac00}-\x{d7a3}\x{3131}-\x{318e}]+|[\x{ff01}\x{2026}\x{201c}\x{201d}\x{2018}\x{2019})"
    R"(\x{2014}\x{ff1a}\x{ff1b}\x{ff0c}\x{3001}-\x{303f}\x{fe30}-\x{fe4f}]+|[\x{3105}-\x{312f}]+)"
    R"(|[\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+)";

// Words that begin with capitals, and words of capitals.
std::string cased(const std::string& upper, const std::string& lower, const std::string& end) {
  return kLead + upper + "*" + lower + "+" + end + "|" + kLead + upper + "+" + lower + "*" + end;
}

std::string not_han(const std::string& set) { return "(?:(?!\\p{Han})" + set + ")"; }

// Qwen2's kind: contractions, words of `letters`, numbers, marks.
std::string plain_words(const std::string& letters, const std::string& rest) {
  return kShort + "|" + kLead + letters + rest + kSpaces;
}

// Those of the models that this project trains.
std::vector<Known> common_ones() {
  return {
      {.name = "gpt2", .words = true},
      {.name = "qwen2",
       .splits = {plain_words(R"(\p{L}+)", R"(|\p{N})" + kMarks)},
       .composes = true,
       .covers = true},
      {.name = "llama3",
       .splits = {plain_words(R"(\p{L}+)", R"(|\p{N}{1,3})" + kMarks)},
       .covers = true},
      // Control characters match nowhere, so this one does not cover.
      {.name = "deepseek", .splits = {R"(\p{N}{1,3})", kHanAndKana, kLatinOrMarks}},
      {.name = "smollm", .splits = {R"(\p{N})"}, .words = true},
      {.name = "deepseek-llm",
       .splits = {"[\r\n]", R"(\s?[\p{Lu}\p{Ll}\p{Lt}]+)", kWideMarks, R"(\s+$)", kHanAndHangul,
                  R"(\p{N}+)"},
       .boundary = kNowhere},
      {.name = "deepseek-coder",
       .splits = {"[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)", kHanAndHangul, R"(\p{N})"}},
      {.name = "qwen3.5",
       .splits = {plain_words(R"([\p{L}\p{M}]+)", R"(|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*)")},
       .composes = true,
       .covers = true},
      {.name = "gpt4o",
       .splits = {cased(kUpper, kLower, kShort + "?") + R"(|\p{N}{1,3})" + kMarksOrSlash + kSpaces},
       .covers = true,
       .boundary = kNotContracted},
      {.name = "tekken",
       .splits = {cased(kUpper, kLower, "") + R"(|\p{N})" + kMarksOrSlash + kSpaces},
       .covers = true},
      {.name = "seed-coder",
       .splits = {plain_words(R"(\p{L}+)", R"(|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+)")},
       .covers = true},
  };
}

std::vector<Known> other_ones() {
  return {
      {.name = "falcon", .splits = {R"([\p{P}\$\+<=>\^~\|`]+)", kWords, "[0-9][0-9][0-9]"}},
      {.name = "default",  // what llama.cpp does where a file says nothing
       .splits = {R"([\p{P}\$\+<=>\^~\|]+)", kWords, R"(\p{N}+)", "[0-9][0-9][0-9]"}},
      {.name = "bloom", .splits = {kUnbroken}, .boundary = kNowhere},
      {.name = "viking", .splits = {kUnbroken, R"(\p{N})"}, .boundary = kNowhere},
      {.name = "superbpe", .splits = {R"(\p{N}+)", R"((?=(\d{3})+(?!\d)))"}, .boundary = kNowhere},
      {.name = "kimi-k2",
       .splits = {R"([\p{Han}]+|)" + cased(not_han(kUpper), not_han(kLower), kShort + "?") +
                  R"(|\p{N}{1,3})" + kMarks + kSpaces},
       .covers = true,
       .boundary = kNotContracted},
      {.name = "bailing",
       .splits = {R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N})"
                  R"(| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)"},
       .covers = true},
      {.name = "exaone-moe",
       .splits = {kShort + "|" + kLead + R"((?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N})" +
                  R"(| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)"},
       .covers = true,
       .boundary = kNowhere},
      {.name = "afmoe",  // numbers in threes, counted from their ends
       .splits = {R"(\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N})))", kAsianScripts, kLatinOrMarks},
       .boundary = kNowhere},
      {.name = "youtu",
       .splits = {kScriptsOfYoutu,
                  cased(kUpper, kLower, kShort + "?") + R"(|\p{N})" + kMarksOrSlash + kSpaces},
       .boundary = kNotContracted},
      {.name = "chameleon",
       .splits = {"<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )",
                  R"(\p{N})", R"([\p{P}!-/:-@\[-`{-~])"},
       .words = true,
       .boundary = kNowhere},
  };
}

const std::vector<Known>& all_known() {
  static const std::vector<Known> all = [] {
    std::vector<Known> list = common_ones();
    std::vector<Known> others = other_ones();
    std::move(others.begin(), others.end(), std::back_inserter(list));
    return list;
  }();
  return all;
}

const Known& known(std::string_view name) {
  const auto& all = all_known();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Known& one) { return one.name == name; });
  CHECK(found != all.end(), "pre-tokenizer {}", name);
  return *found;
}

json split_step(const std::string& pattern) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", pattern}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

json steps_of(const Known& one) {
  if (one.splits.empty()) return byte_level(one.words);
  json steps = json::array();
  for (const std::string& pattern : one.splits) steps.push_back(split_step(pattern));
  steps.push_back(byte_level(one.words));
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

// The pattern with escapes for line ends: files write them either way.
std::string escaped_line_ends(const std::string& pattern) {
  std::string text;
  for (const char c : pattern) {
    if (c == '\r') {
      text += "\\r";
    } else if (c == '\n') {
      text += "\\n";
    } else {
      text += c;
    }
  }
  return text;
}

bool is_on(const json& step, const char* key, bool absent) {
  return step.contains(key) && !step[key].is_null() ? step[key] == true : absent;
}

// What a chain of steps does, as text; `covers` as in Known.
std::string signature(const json& root, bool covers) {
  const json steps = root.value("type", "") == "Sequence" ? root["pretokenizers"] : json{root};
  std::string text;
  for (const json& step : steps) {
    const std::string type = step.value("type", "");
    if (type == "Split" && step["pattern"].contains("Regex")) {
      const bool invert = is_on(step, "invert", false);
      const bool isolates = step["behavior"] == "Isolated" && !invert;
      const bool keeps = covers && step["behavior"] == "Removed" && invert;
      text += isolates || keeps ? "split " : "other ";
      text += escaped_line_ends(step["pattern"]["Regex"].get<std::string>());
    } else if (type == "Digits") {
      text += is_on(step, "individual_digits", false) ? R"(split \p{N})" : R"(split \p{N}+)";
    } else if (type == "ByteLevel") {
      text += is_on(step, "add_prefix_space", true) ? "prefixed bytes" : "bytes";
      if (is_on(step, "use_regex", true)) text += " of words";
    } else {
      text += "other";
    }
    text += '\n';
  }
  return text;
}

}  // namespace

const std::vector<std::string>& pre_tokenizer_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Known& one : all_known()) list.push_back(one.name);
    return list;
  }();
  return names;
}

std::string pre_tokenizer_json(std::string_view name) { return steps_of(known(name)).dump(); }

std::string normalizer_json(std::string_view name) {
  return known(name).composes ? R"({"type":"NFC"})" : "null";
}

std::string pre_tokenizer_boundary(std::string_view name) {
  return name.empty() ? "" : known(name).boundary;
}

std::string known_pre_tokenizer(const std::string& text) {
  const json root = json::parse(text);
  for (const Known& one : all_known()) {
    if (signature(root, one.covers) == signature(steps_of(one), one.covers)) return one.name;
  }
  return "";
}

}  // namespace lockstep
