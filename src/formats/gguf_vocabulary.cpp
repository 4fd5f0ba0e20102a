// Token tables to metadata and back. llama.cpp wants every text once, so that is checked here.
#include "formats/gguf_vocabulary.h"

#include "core/error.h"

#include <array>
#include <string_view>
#include <unordered_map>

namespace lockstep {
namespace {

using Kind = TokenTable::Kind;

// tokenizer.ggml.token_type
enum TokenType : std::int32_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

// llama.cpp's names of the pre-tokenizers that ours are; the first of each is written.
struct PreTokenizer {
  std::string_view ours, theirs;
};
constexpr std::array<PreTokenizer, 8> kPreTokenizers = {{{"gpt2", "gpt-2"},
                                                         {"qwen2", "qwen2"},
                                                         {"qwen2", "deepseek-r1-qwen"},
                                                         {"llama3", "llama-bpe"},
                                                         {"llama3", "llama3"},
                                                         {"llama3", "llama-v3"},
                                                         {"llama3", "falcon3"},
                                                         {"deepseek", "deepseek-v3"}}};

std::string their_pre_tokenizer(const TokenTable& table, const std::string& pre) {
  if (!pre.empty()) return pre;
  // Without merges every byte stays alone, however the text is split before.
  if (table.merges.empty()) return "gpt-2";
  for (const PreTokenizer& known : kPreTokenizers) {
    if (known.ours == table.pre_tokenizer) return std::string(known.theirs);
  }
  fail(ExitCode::kUsage,
       "--tokenizer-pre: this tokenizer splits text in a way that has no known name in llama.cpp; "
       "give the name of the one it equals (gpt-2, llama-bpe, qwen2, deepseek-v3, ...)");
}

std::int32_t type_of(Kind kind) {
  switch (kind) {
    case Kind::kNormal: return kNormal;
    case Kind::kAdded: return kUserDefined;
    case Kind::kSpecial: return kControl;
    case Kind::kUnused: return kUnused;
  }
  return kUnused;
}

void check_unique(const std::vector<std::string>& texts) {
  std::unordered_map<std::string_view, std::size_t> seen;
  for (std::size_t id = 0; id < texts.size(); ++id) {
    const auto [first, added] = seen.emplace(texts[id], id);
    if (!added) {
      fail(ExitCode::kData,
           "the tokenizer gives token '{}' two ids, {} and {}; llama.cpp loads no such vocabulary: "
           "remove one from tokenizer.json",
           texts[id], first->second, id);
    }
  }
}

// What ends a generation when the tokenizer names nothing: llama.cpp would take id 11, which is
// text. An unused id never comes; among bytes 0 is the one that text has not.
std::int64_t end_token(const TokenTable& table, const std::vector<std::int32_t>& types) {
  if (table.eos >= 0) return table.eos;
  for (std::size_t id = 0; id < types.size(); ++id) {
    if (types[id] == kUnused) return static_cast<std::int64_t>(id);
  }
  return table.merges.empty() ? 0 : -1;
}

template <typename T>
const T* find_value(const std::map<std::string, GgufValue>& metadata, const std::string& key) {
  const auto at = metadata.find(key);
  return at == metadata.end() ? nullptr : std::get_if<T>(&at->second);
}

Kind kind_of(std::int32_t type) {
  switch (type) {
    case kControl:
    case kUnknown: return Kind::kSpecial;
    case kUserDefined: return Kind::kAdded;
    case kUnused: return Kind::kUnused;
    default: return Kind::kNormal;
  }
}

// Ids are the bytes themselves; whatever follows is unused.
bool is_byte_table(const TokenTable& table) {
  const std::unique_ptr<Tokenizer> bytes = open_tokenizer("byte");
  const std::vector<TokenTable::Entry>& wanted = bytes->table().entries;
  if (!table.merges.empty() || table.entries.size() < wanted.size()) return false;
  for (std::size_t id = 0; id < table.entries.size(); ++id) {
    const bool same = id < wanted.size() ? table.entries[id].text == wanted[id].text
                                         : table.entries[id].kind == Kind::kUnused;
    if (!same) return false;
  }
  return true;
}

void read_entries(TokenTable& table, const std::map<std::string, GgufValue>& metadata,
                  const std::string& path) {
  const auto* texts = find_value<std::vector<std::string>>(metadata, "tokenizer.ggml.tokens");
  if (texts == nullptr) {
    fail(ExitCode::kData, "{}: key tokenizer.ggml.tokens is missing or no array of strings", path);
  }
  const auto* types = find_value<std::vector<std::int32_t>>(metadata, "tokenizer.ggml.token_type");
  if (types != nullptr && types->size() != texts->size()) {
    fail(ExitCode::kData, "{}: key tokenizer.ggml.token_type has {} items for {} tokens", path,
         types->size(), texts->size());
  }
  for (std::size_t id = 0; id < texts->size(); ++id) {
    table.entries.push_back(
        {(*texts)[id], types == nullptr ? Kind::kNormal : kind_of((*types)[id])});
  }
}

void read_merges(TokenTable& table, const std::map<std::string, GgufValue>& metadata,
                 const std::string& path) {
  const auto* merges = find_value<std::vector<std::string>>(metadata, "tokenizer.ggml.merges");
  if (merges == nullptr) {
    fail(ExitCode::kData, "{}: key tokenizer.ggml.merges is missing or no array of strings", path);
  }
  for (std::size_t rank = 0; rank < merges->size(); ++rank) {
    const std::string& merge = (*merges)[rank];
    const std::size_t space = merge.find(' ', 1);
    if (space == std::string::npos) {
      fail(ExitCode::kData, "{}: item {} of key tokenizer.ggml.merges is no pair", path, rank);
    }
    table.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
}

std::int32_t read_id(const std::map<std::string, GgufValue>& metadata, const std::string& key,
                     std::size_t tokens) {
  const auto* id = find_value<std::uint32_t>(metadata, key);
  return id != nullptr && *id < tokens ? static_cast<std::int32_t>(*id) : -1;
}

std::unique_ptr<Tokenizer> read_bpe(const std::map<std::string, GgufValue>& metadata,
                                    const std::string& path) {
  TokenTable table;
  read_entries(table, metadata, path);
  read_merges(table, metadata, path);
  if (is_byte_table(table)) return open_tokenizer("byte");
  const auto* pre = find_value<std::string>(metadata, "tokenizer.ggml.pre");
  for (const PreTokenizer& known : kPreTokenizers) {
    if (pre != nullptr && known.theirs == *pre) table.pre_tokenizer = known.ours;
  }
  if (table.pre_tokenizer.empty()) {
    fail(ExitCode::kData,
         "{}: key tokenizer.ggml.pre = '{}' is not known (gpt-2, qwen2, llama-bpe and deepseek-v3 "
         "are)",
         path, pre == nullptr ? "" : *pre);
  }
  table.bos = read_id(metadata, "tokenizer.ggml.bos_token_id", table.entries.size());
  table.eos = read_id(metadata, "tokenizer.ggml.eos_token_id", table.entries.size());
  const auto* add_bos = find_value<bool>(metadata, "tokenizer.ggml.add_bos_token");
  table.add_bos = add_bos == nullptr ? table.pre_tokenizer == "llama3" : *add_bos;
  const auto* chat = find_value<std::string>(metadata, "tokenizer.chat_template");
  if (chat != nullptr) table.chat_template = *chat;
  return make_tokenizer(table, path);
}

}  // namespace

void add_vocabulary(GgufMetadata& metadata, const Tokenizer& tokenizer, const std::string& pre,
                    std::int64_t rows) {
  const TokenTable& table = tokenizer.table();
  const auto count = static_cast<std::size_t>(rows);
  CHECK(table.entries.size() <= count, "{} tokens, {} rows", table.entries.size(), rows);
  std::vector<std::string> texts, merges;
  std::vector<std::int32_t> types;
  for (std::size_t id = 0; id < count; ++id) {
    const bool used = id < table.entries.size() && table.entries[id].kind != Kind::kUnused;
    texts.push_back(used ? table.entries[id].text : fmt::format("[PAD{}]", id));
    types.push_back(used ? type_of(table.entries[id].kind) : kUnused);
  }
  check_unique(texts);
  for (const auto& [left, right] : table.merges) merges.push_back(left + " " + right);
  const std::int64_t end = end_token(table, types);
  const auto add = [&](const char* key, GgufValue value) {
    metadata.emplace_back(key, std::move(value));
  };
  add("tokenizer.ggml.model", std::string("gpt2"));
  add("tokenizer.ggml.pre", their_pre_tokenizer(table, pre));
  add("tokenizer.ggml.tokens", std::move(texts));
  add("tokenizer.ggml.token_type", std::move(types));
  add("tokenizer.ggml.merges", std::move(merges));
  const std::int64_t begin = table.bos >= 0 ? table.bos : end;
  if (begin >= 0) add("tokenizer.ggml.bos_token_id", static_cast<std::uint32_t>(begin));
  if (end >= 0) add("tokenizer.ggml.eos_token_id", static_cast<std::uint32_t>(end));
  add("tokenizer.ggml.add_bos_token", table.add_bos);
  if (!table.chat_template.empty()) add("tokenizer.chat_template", table.chat_template);
}

std::unique_ptr<Tokenizer> read_vocabulary(std::string& error,
                                           const std::map<std::string, GgufValue>& metadata,
                                           const std::string& path) {
  error.clear();
  const auto* model = find_value<std::string>(metadata, "tokenizer.ggml.model");
  if (model == nullptr) return nullptr;
  if (*model != "gpt2") {
    error = fmt::format("{}: key tokenizer.ggml.model = '{}' is not supported (only gpt2 is)", path,
                        *model);
    return nullptr;
  }
  try {
    return read_bpe(metadata, path);
  } catch (const UserError& failure) {
    error = failure.what();
    return nullptr;
  }
}

}  // namespace lockstep
