// A byte-level BPE tokenizer as its files describe it: read from tokenizer.json and
// tokenizer_config.json, and written from a table.
#pragma once

#include "data/added_tokens.h"
#include "data/tokenizer.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace lockstep {

struct BpeFile {
  TokenTable table;  // without bos, eos, add_bos and chat templates, see below
  std::vector<AddedToken> added;
  std::string pre_tokenizer;  // JSON
  bool normalizes = false;    // to form C
  bool ignore_merges = false;
  std::string unknown_token;  // for bytes that the vocabulary lacks, or ""
  bool fuse_unknown = false;
  std::vector<std::string> prefix;  // the tokens that the post-processor puts before a text
};

// What tokenizer_config.json says of a tokenizer.
struct TokenizerConfig {
  std::string bos_token;  // text, "" if there is none
  std::string eos_token;
  ChatTemplates chat;
  int add_bos = -1;  // -1: not said
};

using TokenIds = std::unordered_map<std::string_view, std::int32_t>;

// Ids by text; the views are of `table`.
TokenIds ids_of(const TokenTable& table);

// Both throw UserError(kData) naming `origin` and the part that is wrong or not supported.
BpeFile parse_bpe_file(const std::string& tokenizer_json, const std::string& origin);
TokenizerConfig parse_tokenizer_config(const std::string& text, const std::string& origin);

// The texts of the three files, for a table whose entries are UTF-8. Added tokens are as their
// kinds say and taken as they stand.
std::string compose_tokenizer(const TokenTable& table, const std::string& pre_tokenizer_json,
                              const std::string& normalizer_json, bool ignore_merges);
std::string compose_config(const TokenTable& table);
std::string compose_special_tokens(const TokenTable& table);
// `config` with this eos_token, all else unchanged. What is no JSON object is taken as {}.
std::string with_eos_token(const std::string& config, const std::string& eos_token);

}  // namespace lockstep
