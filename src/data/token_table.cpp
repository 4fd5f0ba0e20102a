// Vocabularies compared, and lists of chat templates.
#include "data/json_checks.h"
#include "data/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>

namespace lockstep {
namespace {

using Kind = TokenTable::Kind;

bool is_added(Kind kind) { return kind == Kind::kAdded || kind == Kind::kSpecial; }

std::string described(const TokenTable::Entry& entry) {
  return entry.kind == Kind::kUnused ? "unused" : fmt::format("'{}'", shown(entry.text));
}

}  // namespace

void ChatTemplates::add(const std::string& name, std::string text) {
  if (name == "default") {
    standard = std::move(text);
  } else {
    named.emplace_back(name, std::move(text));
  }
}

std::string vocabulary_difference(const TokenTable& first, const TokenTable& second) {
  static const TokenTable::Entry unused{"", Kind::kUnused};
  const auto at = [&](const TokenTable& table, std::size_t id) -> const TokenTable::Entry& {
    return id < table.entries.size() ? table.entries[id] : unused;
  };
  const std::size_t size = std::max(first.entries.size(), second.entries.size());
  for (std::size_t id = 0; id < size; ++id) {
    const TokenTable::Entry& a = at(first, id);
    const TokenTable::Entry& b = at(second, id);
    const bool one_is_unused = a.kind == Kind::kUnused || b.kind == Kind::kUnused;
    const bool same =
        one_is_unused ? a.kind == b.kind || is_added(a.kind) || is_added(b.kind) : a.text == b.text;
    if (same) continue;
    return fmt::format("id {} is {} in the first and {} in the second", id, described(a),
                       described(b));
  }
  return first.merges == second.merges ? "" : "their merges differ";
}

}  // namespace lockstep
