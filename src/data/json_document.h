// One line of a JSON Lines corpus as a document: a text, or a prompt and its completion.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace lockstep {

struct JsonDocument {
  std::string prompt;  // "" for a text
  std::string text;    // the whole text, or the completion
  bool has_prompt = false;
  std::int64_t replaced = 0;  // halves of surrogate pairs in these, U+FFFD now

  std::int64_t bytes() const { return static_cast<std::int64_t>(prompt.size() + text.size()); }
  std::uint64_t hash() const;  // document_hash() of prompt and text in a row
};

// `field` names the member that holds the text; without it, `prompt` and `completion` are taken.
// NaN, infinities and numbers beyond every type may stand in other members, see json_relax.h.
// Throws UserError(kData) that begins with `where` (FILE:LINE): no JSON, no UTF-8, no object, a
// missing member, a value that is no string.
JsonDocument parse_document(std::string_view line, const std::string& field,
                            const std::string& where);

}  // namespace lockstep
