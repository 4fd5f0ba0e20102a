// Steps parsed from JSON and run one after the other: each cuts the pieces of the one before. The
// five behaviours of a Split are those of Hugging Face's library.
#include "data/pre_tokenizer.h"

#include "core/error.h"
#include "data/json_checks.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

namespace lockstep {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxSteps = 16;
constexpr const char* kGpt2 =
    R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

enum class Behavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };
constexpr std::array<std::string_view, 5> kBehaviors = {"Isolated", "Removed", "MergedWithPrevious",
                                                        "MergedWithNext", "Contiguous"};

struct Range {
  std::size_t start = 0;
  std::size_t end = 0;
  bool match = false;
};

Behavior behavior_of(const json& step, const std::string& origin) {
  const std::string name = string_field(step, "behavior", origin);
  const auto found = std::find(kBehaviors.begin(), kBehaviors.end(), name);
  if (found == kBehaviors.end()) {
    fail(ExitCode::kData,
         "{}: pre_tokenizer Split has behavior '{}'; known: Isolated, Removed, "
         "MergedWithPrevious, MergedWithNext, Contiguous",
         origin, shown(name));
  }
  return static_cast<Behavior>(found - kBehaviors.begin());
}

std::string escape_literal(std::string_view text) {
  std::string pattern;
  for (const char c : text) {
    if (std::string_view("\\^$.|?*+()[]{}-&~# ").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

// {"Regex": ...} or {"String": ...}
std::string pattern_of(const json& step, const std::string& origin) {
  const auto found = step.find("pattern");
  if (found != step.end() && found->is_object() && found->size() == 1) {
    const auto& value = found->begin().value();
    const std::string& kind = found->begin().key();
    if (value.is_string() && (kind == "Regex" || kind == "String")) {
      const auto text = value.get<std::string>();
      if (text.empty())
        fail(ExitCode::kData, "{}: pre_tokenizer Split has an empty pattern", origin);
      return kind == "Regex" ? text : escape_literal(text);
    }
  }
  fail(ExitCode::kData,
       "{}: pre_tokenizer Split needs a pattern {{\"Regex\": ...}} or "
       "{{\"String\": ...}}",
       origin);
}

// Joins neighbouring ranges as the behaviours that merge ask for.
void merge_ranges(std::vector<Range>& ranges, Behavior behavior) {
  const bool backwards = behavior == Behavior::kMergedWithNext;
  if (backwards) std::reverse(ranges.begin(), ranges.end());
  std::vector<Range> merged;
  bool previous = false;
  for (const Range& range : ranges) {
    const bool joins =
        behavior == Behavior::kContiguous ? range.match == previous : range.match && !previous;
    previous = range.match;
    if (!joins || merged.empty()) {
      merged.push_back(range);
    } else if (backwards) {
      merged.back().start = range.start;
    } else {
      merged.back().end = range.end;
    }
  }
  if (backwards) std::reverse(merged.begin(), merged.end());
  ranges = std::move(merged);
}

}  // namespace

struct PreTokenizer::Step {
  std::vector<Regex> regex;  // one, or none for a ByteLevel that only maps bytes
  Behavior behavior = Behavior::kIsolated;
  bool invert = false;
  bool prefix_space = false;

  // Calls emit(start, end) for the pieces of `text`.
  template <typename Emit>
  void cut(std::string_view text, RegexScratch& scratch, Emit&& emit) const;
  template <typename Take>
  void ranges(std::string_view text, RegexScratch& scratch, Take&& take) const;
};

// Matches and the gaps between them. An empty match is taken, but not right after another one.
template <typename Take>
void PreTokenizer::Step::ranges(std::string_view text, RegexScratch& scratch, Take&& take) const {
  std::size_t done = 0;
  std::size_t from = 0;
  std::size_t start = 0;
  std::size_t end = 0;
  bool any = false;
  while (from <= text.size() && regex[0].find(start, end, scratch, text, from)) {
    if (start == end && any && end == done) {
      do {
        ++from;
      } while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xc0) == 0x80);
      continue;
    }
    if (start > done) take(Range{done, start, invert});
    take(Range{start, end, !invert});
    done = end;
    from = end;
    any = true;
  }
  if (done < text.size()) take(Range{done, text.size(), invert});
}

template <typename Emit>
void PreTokenizer::Step::cut(std::string_view text, RegexScratch& scratch, Emit&& emit) const {
  const bool removes = behavior == Behavior::kRemoved;
  const auto take = [&](const Range& range) {
    if (range.end > range.start && !(removes && range.match)) emit(range.start, range.end);
  };
  if (removes || behavior == Behavior::kIsolated) {
    ranges(text, scratch, take);
    return;
  }
  std::vector<Range> all;
  ranges(text, scratch, [&](const Range& range) { all.push_back(range); });
  merge_ranges(all, behavior);
  for (const Range& range : all) take(range);
}

PreTokenizer::~PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;

PreTokenizer::PreTokenizer(const std::string& text, const std::string& origin) {
  const json root = json::parse(text);
  const json steps = root.is_object() && root.value("type", json()) == "Sequence"
                         ? root.value("pretokenizers", json())
                         : json::array({root});
  if (!steps.is_array() || steps.empty() || steps.size() > kMaxSteps) {
    fail(ExitCode::kData, "{}: pre_tokenizer Sequence needs 1 to {} pretokenizers", origin,
         kMaxSteps);
  }
  bool byte_level = false;
  for (const json& step : steps) {
    const std::string type = step.is_object() ? string_field(step, "type", origin) : "no object";
    if (byte_level) {
      fail(ExitCode::kData, "{}: pre_tokenizer '{}' after ByteLevel is not supported", origin,
           shown(type));
    }
    Step& made = steps_.emplace_back();
    if (type == "ByteLevel") {
      byte_level = true;
      made.prefix_space = bool_field(step, "add_prefix_space", true, origin);
      if (bool_field(step, "use_regex", true, origin)) made.regex.emplace_back(kGpt2, origin);
    } else if (type == "Digits") {
      const bool each = bool_field(step, "individual_digits", false, origin);
      made.regex.emplace_back(each ? R"(\p{N})" : R"(\p{N}+)", origin);
    } else if (type == "Split") {
      made.regex.emplace_back(pattern_of(step, origin), origin);
      made.behavior = behavior_of(step, origin);
      made.invert = bool_field(step, "invert", false, origin);
    } else {
      fail(ExitCode::kData,
           "{}: pre_tokenizer type '{}' is not supported; known: Sequence, Split, "
           "Digits, ByteLevel",
           origin, shown(type));
    }
  }
  if (!byte_level) {
    fail(ExitCode::kData,
         "{}: pre_tokenizer has no ByteLevel step; only byte-level vocabularies "
         "are supported",
         origin);
  }
  name_ = known_pre_tokenizer(text);
}

void PreTokenizer::run(std::size_t step, std::string_view text, RegexScratch& scratch,
                       PieceSink& sink) const {
  const Step& now = steps_[step];
  std::string prefixed;
  if (now.prefix_space && !text.starts_with(' ')) {
    prefixed.reserve(text.size() + 1);
    prefixed = ' ';
    text = prefixed += text;
  }
  const bool last = step + 1 == steps_.size();
  if (now.regex.empty()) {
    sink.piece(text);  // a ByteLevel, which is the last
  } else if (last) {
    now.cut(text, scratch, [&](std::size_t start, std::size_t end) {
      sink.piece(text.substr(start, end - start));
    });
  } else {
    now.cut(text, scratch, [&](std::size_t start, std::size_t end) {
      run(step + 1, text.substr(start, end - start), scratch, sink);
    });
  }
}

void PreTokenizer::split(std::string_view text, RegexScratch& scratch, PieceSink& sink) const {
  if (!text.empty()) run(0, text, scratch, sink);
}

}  // namespace lockstep
