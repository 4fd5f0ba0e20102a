// The pre-tokenizers that published models use, as their tokenizer.json files have them. Patterns
// are facts of those files: a different one splits text differently and spoils a vocabulary.
#include "core/error.h"
#include "data/pre_tokenizer.h"

#include <nlohmann/json.hpp>

namespace lockstep {
namespace {

using nlohmann::json;

// Qwen2 takes digits one by one, Llama-3 up to three at a time.
constexpr const char* kQwen2 = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
                               R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// DeepSeek-V3: digits, then Han and kana, then the rest. Its file holds carriage returns and line
// feeds as characters, not as escapes.
constexpr const char* kDeepseekDigits = R"(\p{N}{1,3})";
constexpr const char* kDeepseekHan =
    "[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+";
constexpr const char* kDeepseekRest =
    "[!\"#$%&'()*+,\\-./"
    ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";

json split_step(const char* pattern) {
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

json known(std::string_view name) {
  json steps = json::array();
  if (name == "qwen2") steps = {split_step(kQwen2)};
  if (name == "llama3") steps = {split_step(kLlama3)};
  if (name == "deepseek") {
    steps = {split_step(kDeepseekDigits), split_step(kDeepseekHan), split_step(kDeepseekRest)};
  }
  CHECK(!steps.empty() || name == "gpt2", "pre-tokenizer {}", name);
  if (steps.empty()) return byte_level(/*use_regex=*/true);
  steps.push_back(byte_level(/*use_regex=*/false));
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

// What a chain of steps does, as text. `covers`: the pattern matches every character, so that
// keeping the matches and removing the gaps is the same as isolating the matches.
std::string signature(const json& root, bool covers) {
  const json steps = root.value("type", "") == "Sequence" ? root["pretokenizers"] : json{root};
  std::string text;
  for (const json& step : steps) {
    if (step.value("type", "") == "Split" && step["pattern"].contains("Regex")) {
      const bool invert = step.contains("invert") && step["invert"] == true;
      const bool isolates = step["behavior"] == "Isolated" && !invert;
      const bool keeps = covers && step["behavior"] == "Removed" && invert;
      text += isolates || keeps ? "split " : "other ";
      text += escaped_line_ends(step["pattern"]["Regex"].get<std::string>());
    } else if (step.value("type", "") == "ByteLevel") {
      const auto is_on = [&](const char* key) {
        return !step.contains(key) || step[key].is_null() || step[key] == true;
      };
      text += is_on("add_prefix_space") ? "prefixed bytes" : "bytes";
      if (is_on("use_regex")) text += " of words";
    } else {
      text += "other";
    }
    text += '\n';
  }
  return text;
}

}  // namespace

const std::vector<std::string>& pre_tokenizer_names() {
  static const std::vector<std::string> names = {"gpt2", "qwen2", "llama3", "deepseek"};
  return names;
}

std::string pre_tokenizer_json(std::string_view name) { return known(name).dump(); }

std::string normalizer_json(std::string_view name) {
  return name == "qwen2" ? R"({"type":"NFC"})" : "null";
}

std::string known_pre_tokenizer(const std::string& text) {
  const json root = json::parse(text);
  for (const std::string& name : pre_tokenizer_names()) {
    const bool covers = name != "deepseek";  // which leaves control characters unmatched
    if (signature(root, covers) == signature(known(name), covers)) return name;
  }
  return "";
}

}  // namespace lockstep
