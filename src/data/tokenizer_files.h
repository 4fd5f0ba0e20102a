// Which files of a directory are a tokenizer's. Model directories hold much else (weights, hidden
// files, caches), and a checkpoint or an export should carry the tokenizer alone. These are taken:
//   tokenizer.json  tokenizer_config.json  special_tokens_map.json  added_tokens.json
//   vocab.json  merges.txt                  (of the library's older, slow tokenizers)
//   chat_template.jinja  additional_chat_templates/*.jinja  chat_templates/*.jinja
//   generation_config.json                  (which tokens end a text)
#pragma once

#include "core/named_text.h"

#include <string>
#include <vector>

namespace lockstep {

inline constexpr const char* kTokenizerJson = "tokenizer.json";
inline constexpr const char* kTokenizerConfig = "tokenizer_config.json";
inline constexpr const char* kSpecialTokens = "special_tokens_map.json";
inline constexpr const char* kChatTemplate = "chat_template.jinja";
inline constexpr const char* kGenerationConfig = "generation_config.json";

// A directory of named chat templates, which transformers calls additional_chat_templates (for a
// while it was chat_templates): "DIR/tool_use.jinja" gives "tool_use", any other name "".
std::string chat_template_name(const std::string& file);

// What there is of the list above beside `tokenizer_json` (whose own name may be another), sorted
// by name; named templates with unusual names are left out. Throws UserError(kData) naming a file
// that cannot be read or is too long for what it is.
std::vector<NamedText> read_tokenizer_files(const std::string& tokenizer_json);

// Writes them into `directory`, which must exist; they are on disk on return.
void write_tokenizer_files(const std::string& directory, const std::vector<NamedText>& files);

// The text of the one called `name`, or null.
const std::string* find_text(const std::vector<NamedText>& files, const std::string& name);

}  // namespace lockstep
