// Token tables to metadata and back. llama.cpp wants every text once, so that is checked here.
#include "formats/gguf_vocabulary.h"

#include "core/error.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>
#include <unordered_map>

namespace lockstep {
namespace {

using Kind = TokenTable::Kind;

constexpr const char* kChatTemplateKey = "tokenizer.chat_template";

// tokenizer.ggml.token_type
enum TokenType : std::int32_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

// What llama.cpp does under each of its names: how it splits text, whether a piece that is a token
// stays whole, and whether a text begins with BOS where the file does not say. The first one of a
// kind is the one that is written. Left out are those that are no byte-level BPE.
struct PreTokenizer {
  std::string_view ours, theirs;
  bool ignore_merges = false;
  bool add_bos = false;
};
constexpr PreTokenizer kPreTokenizers[] = {
    {"gpt2", "gpt-2"},
    {"gpt2", "phi-2"},
    {"gpt2", "mpt"},
    {"gpt2", "olmo"},
    {"gpt2", "jais"},
    {"gpt2", "trillion"},
    {"gpt2", "granite-docling"},
    {"gpt2", "exaone4"},
    {"gpt2", "gigachat"},
    {"gpt2", "a.x-4.0"},
    {"gpt2", "mellum"},
    {"gpt2", "modern-bert"},
    {"gpt2", "roberta-bpe"},
    {"gpt2", "jina-es"},
    {"gpt2", "jina-de"},
    {"gpt2", "jina-v1-en"},
    {"gpt2", "jina-v2-es"},
    {"gpt2", "jina-v2-de"},
    {"gpt2", "jina-v2-code"},
    {"qwen2", "qwen2"},
    {"qwen2", "deepseek-r1-qwen"},
    {"qwen2", "kormo"},
    {"qwen2", "f2llmv2"},
    {"qwen2", "megrez"},
    {"qwen2", "stablelm2"},
    {"qwen2", "hunyuan"},
    {"qwen2", "solar-open"},
    {"qwen2", "grok-2"},
    {"llama3", "llama-bpe", true, true},
    {"llama3", "llama3", true, true},
    {"llama3", "llama-v3", true, true},
    {"llama3", "falcon3", true, true},
    {"llama3", "falcon-h1", true, true},
    {"llama3", "pixtral", true, true},
    {"llama3", "midm-2.0", true, true},
    {"llama3", "lfm2", true, true},
    {"llama3", "jina-v5-nano", true, true},
    {"llama3", "smaug-bpe"},
    {"llama3", "dbrx"},
    {"llama3", "chatglm-bpe"},
    {"llama3", "glm4"},
    {"deepseek", "deepseek-v3"},
    {"deepseek", "hunyuan-dense"},
    {"deepseek", "joyai-llm"},
    {"deepseek-llm", "deepseek-llm"},
    {"deepseek-coder", "deepseek-coder"},
    {"smollm", "smollm"},
    {"smollm", "starcoder"},
    {"smollm", "refact"},
    {"smollm", "command-r"},
    {"smollm", "codeshell"},
    {"smollm", "exaone"},
    {"smollm", "minerva-7b"},
    {"qwen3.5", "qwen35"},
    {"gpt4o", "gpt-4o"},
    {"gpt4o", "llama4"},
    {"gpt4o", "kanana2"},
    {"gpt4o", "talkie"},
    {"gpt4o", "minimax-m2"},
    {"tekken", "tekken", true, true},
    {"seed-coder", "seed-coder"},
    {"falcon", "falcon"},
    {"default", "default"},
    {"bloom", "bloom"},
    {"bloom", "poro-chat"},
    {"bloom", "gpt3-finnish"},
    {"viking", "viking"},
    {"superbpe", "superbpe"},
    {"kimi-k2", "kimi-k2"},
    {"bailing", "bailingmoe"},
    {"bailing", "bailingmoe2"},
    {"bailing", "llada-moe"},
    {"exaone-moe", "exaone-moe"},
    {"afmoe", "afmoe"},
    {"youtu", "youtu", true},
    {"chameleon", "chameleon", false, true},
};

const PreTokenizer* find_theirs(std::string_view name) {
  const auto* found = std::find_if(std::begin(kPreTokenizers), std::end(kPreTokenizers),
                                   [&](const PreTokenizer& one) { return one.theirs == name; });
  return found == std::end(kPreTokenizers) ? nullptr : found;
}

// For a message: every name, or the one that was meant.
std::string known_names(const std::string& name) {
  std::vector<std::string> names;
  for (const PreTokenizer& known : kPreTokenizers) names.emplace_back(known.theirs);
  const std::string near = nearest(name, names);
  if (!near.empty()) return fmt::format("did you mean '{}'?", near);
  return fmt::format("known are {}", fmt::join(names, ", "));
}

constexpr const char* kTurnKey = "tokenizer.ggml.eot_token_id";
constexpr const char* kMessageKey = "tokenizer.ggml.eom_token_id";
// Our own key: generation_config.json, whole.
constexpr const char* kGenerationKey = "lockstep.generation_config";
// Control tokens at which llama.cpp ends a text whatever the keys say.
constexpr std::array<std::string_view, 9> kEndTexts = {
    "<|eot_id|>", "<|im_end|>",      "<|end|>", "<end_of_turn>", "<|endoftext|>",
    "<|eom_id|>", "<|end_of_text|>", "< EOT >", "_<EOT>"};

std::string their_pre_tokenizer(const TokenTable& table, const std::string& pre) {
  check_pre_tokenizer(pre);
  if (!pre.empty()) return pre;
  // Without merges every byte stays alone, however the text is split before.
  if (table.merges.empty()) return "gpt-2";
  for (const bool exact : {true, false}) {
    for (const PreTokenizer& known : kPreTokenizers) {
      if (known.ours != table.pre_tokenizer) continue;
      if (!exact || known.ignore_merges == table.ignore_merges) return std::string(known.theirs);
    }
  }
  fail(ExitCode::kUsage,
       "--tokenizer-pre: this tokenizer splits text in a way that has no known name in llama.cpp; "
       "give the name of the one it equals (gpt-2, llama-bpe, qwen2, smollm, deepseek-v3, ...)");
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

// What ends a generation when nothing is named: llama.cpp would take id 11, which is text. An
// unused id never comes; among bytes 0 is the one that text has not.
std::int64_t unused_token(const TokenTable& table, const std::vector<std::int32_t>& types) {
  for (std::size_t id = 0; id < types.size(); ++id) {
    if (types[id] == kUnused) return static_cast<std::int64_t>(id);
  }
  return table.merges.empty() ? 0 : -1;
}

// The tokens that begin and end a text. llama.cpp has three keys for those that end one: the
// tokenizer's own is eos, the one for "message" goes by its text, the next other is eot.
void add_text_bounds(GgufMetadata& metadata, const TokenTable& table,
                     const GenerationConfig& generation, const std::vector<std::int32_t>& types) {
  const auto add = [&](const char* key, std::int64_t id) {
    metadata.emplace_back(key, static_cast<std::uint32_t>(id));
  };
  const GenerationConfig all = completed(generation, table);
  std::vector<std::int32_t> ends = all.eos;
  const auto own = std::find(ends.begin(), ends.end(), table.eos);
  if (own != ends.end()) std::rotate(ends.begin(), own, own + 1);
  const std::int64_t end = ends.empty() ? unused_token(table, types) : ends.front();
  const std::int64_t begin = all.bos >= 0 ? all.bos : end;
  if (begin >= 0) add("tokenizer.ggml.bos_token_id", begin);
  if (end >= 0) add("tokenizer.ggml.eos_token_id", end);
  bool has_turn = false, has_message = false;
  for (std::size_t i = 1; i < ends.size(); ++i) {
    const auto id = static_cast<std::size_t>(ends[i]);
    const bool message = id < table.entries.size() && table.entries[id].text == "<|eom_id|>";
    bool& taken = message ? has_message : has_turn;
    if (!taken) add(message ? kMessageKey : kTurnKey, ends[i]);
    taken = true;
  }
  if (!generation.text.empty()) metadata.emplace_back(kGenerationKey, generation.text);
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

// The key itself is the standard one; those with a name behind it are others.
void read_chat_templates(ChatTemplates& chat, const std::map<std::string, GgufValue>& metadata) {
  for (const auto& [key, value] : metadata) {
    const auto* text = std::get_if<std::string>(&value);
    if (text == nullptr || !key.starts_with(kChatTemplateKey)) continue;
    const std::string name = key.substr(std::string_view(kChatTemplateKey).size());
    if (name.empty()) chat.standard = *text;
    if (name.size() > 1 && name[0] == '.') chat.add(name.substr(1), *text);
  }
}

std::unique_ptr<Tokenizer> read_bpe(const std::map<std::string, GgufValue>& metadata,
                                    const std::string& path) {
  TokenTable table;
  read_entries(table, metadata, path);
  read_merges(table, metadata, path);
  if (is_byte_table(table)) return open_tokenizer("byte");
  const auto* pre = find_value<std::string>(metadata, "tokenizer.ggml.pre");
  const PreTokenizer* known = find_theirs(pre == nullptr ? "default" : *pre);
  if (known == nullptr) {
    fail(ExitCode::kData, "{}: key tokenizer.ggml.pre = '{}' is not known; {}", path, *pre,
         known_names(*pre));
  }
  table.pre_tokenizer = known->ours;
  table.ignore_merges = known->ignore_merges;
  table.bos = read_id(metadata, "tokenizer.ggml.bos_token_id", table.entries.size());
  table.eos = read_id(metadata, "tokenizer.ggml.eos_token_id", table.entries.size());
  const auto* add_bos = find_value<bool>(metadata, "tokenizer.ggml.add_bos_token");
  table.add_bos = add_bos == nullptr ? known->add_bos : *add_bos;
  read_chat_templates(table.chat, metadata);
  return make_tokenizer(table, path);
}

}  // namespace

void check_pre_tokenizer(const std::string& name) {
  if (name.empty() || find_theirs(name) != nullptr) return;
  fail(ExitCode::kUsage,
       "--tokenizer-pre {}: no name of llama.cpp's for a byte-level BPE that is known here; {}",
       name, known_names(name));
}

void add_vocabulary(GgufMetadata& metadata, const Tokenizer& tokenizer,
                    const GenerationConfig& generation, const std::string& pre, std::int64_t rows) {
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
  const std::vector<std::int32_t> kinds = types;
  const auto add = [&](const char* key, GgufValue value) {
    metadata.emplace_back(key, std::move(value));
  };
  add("tokenizer.ggml.model", std::string("gpt2"));
  add("tokenizer.ggml.pre", their_pre_tokenizer(table, pre));
  add("tokenizer.ggml.tokens", std::move(texts));
  add("tokenizer.ggml.token_type", std::move(types));
  add("tokenizer.ggml.merges", std::move(merges));
  add_text_bounds(metadata, table, generation, kinds);
  add("tokenizer.ggml.add_bos_token", table.add_bos);
  if (!table.chat.standard.empty()) add(kChatTemplateKey, table.chat.standard);
  std::vector<std::string> names;
  for (const auto& [name, text] : table.chat.named) {
    names.push_back(name);
    metadata.emplace_back(fmt::format("{}.{}", kChatTemplateKey, name), text);
  }
  if (!names.empty()) add("tokenizer.chat_templates", std::move(names));
}

GenerationConfig read_generation(const std::map<std::string, GgufValue>& metadata,
                                 const std::string& path, std::int64_t vocab) {
  if (const auto* text = find_value<std::string>(metadata, kGenerationKey)) {
    return parse_generation_config(*text, fmt::format("{}: key {}", path, kGenerationKey), vocab);
  }
  const auto* merges = find_value<std::vector<std::string>>(metadata, "tokenizer.ggml.merges");
  if (merges == nullptr || merges->empty()) return {};  // bytes: none of them ends a text
  const auto tokens = static_cast<std::size_t>(vocab);
  GenerationConfig config;
  for (const char* key : {"tokenizer.ggml.eos_token_id", kTurnKey, kMessageKey}) {
    config = with_end_token(config, read_id(metadata, key, tokens));
  }
  const auto* texts = find_value<std::vector<std::string>>(metadata, "tokenizer.ggml.tokens");
  const auto* types = find_value<std::vector<std::int32_t>>(metadata, "tokenizer.ggml.token_type");
  if (texts == nullptr || types == nullptr || types->size() != texts->size()) return config;
  std::erase_if(config.eos, [&](std::int32_t id) {
    return static_cast<std::size_t>(id) < types->size() &&
           (*types)[static_cast<std::size_t>(id)] == kUnused;
  });
  for (std::size_t id = 0; id < std::min(texts->size(), tokens); ++id) {
    const bool ends = (*types)[id] == kControl && std::find(kEndTexts.begin(), kEndTexts.end(),
                                                            (*texts)[id]) != kEndTexts.end();
    if (ends) config = with_end_token(config, static_cast<std::int32_t>(id));
  }
  return config;
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
