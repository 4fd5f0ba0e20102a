// tokenizer_config.json, of which few keys matter here, and the files that are made for a table.
#include "core/error.h"
#include "core/json_nesting.h"
#include "data/bpe_file.h"
#include "data/json_checks.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>

namespace lockstep {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

// "text" or {"content": "text"}; "" if the key is absent or null.
std::string token_text(const json& config, const char* key, const std::string& origin) {
  const auto found = config.find(key);
  if (found == config.end() || found->is_null()) return "";
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object()) return string_field(*found, "content", origin);
  fail(ExitCode::kData, "{}: '{}' is neither a string nor an object with \"content\"", origin, key);
}

// A string, or a list of named ones of which "default" is the one that counts most.
ChatTemplates chat_templates(const json& config) {
  ChatTemplates chat;
  const auto found = config.find("chat_template");
  if (found == config.end()) return chat;
  if (found->is_string()) chat.standard = found->get<std::string>();
  if (!found->is_array()) return chat;
  for (const json& item : *found) {
    if (!item.is_object()) continue;
    const json name = item.value("name", json());
    const json text = item.value("template", json());
    if (!name.is_string() || !text.is_string()) continue;
    chat.add(name.get<std::string>(), text.get<std::string>());
  }
  return chat;
}

ordered_json chat_json(const ChatTemplates& chat) {
  if (chat.named.empty()) return chat.standard;
  ordered_json list = ordered_json::array();
  if (!chat.standard.empty()) list.push_back({{"name", "default"}, {"template", chat.standard}});
  for (const auto& [name, text] : chat.named) list.push_back({{"name", name}, {"template", text}});
  return list;
}

std::string text_of(const TokenTable& table, std::int32_t id) {
  return id < 0 ? "" : table.entries[static_cast<std::size_t>(id)].text;
}

bool is_added(const TokenTable::Entry& entry) {
  return entry.kind == TokenTable::Kind::kAdded || entry.kind == TokenTable::Kind::kSpecial;
}

// Hugging Face's library numbers added tokens on from the vocabulary: those between other ids must
// therefore be entries of the vocabulary too, and so must placeholders there.
std::string vocabulary(const TokenTable& table) {
  std::size_t end = table.entries.size();
  while (end > 0 && table.entries[end - 1].kind != TokenTable::Kind::kNormal) --end;
  std::string text;
  for (std::size_t id = 0; id < end; ++id) {
    if (table.entries[id].text.empty()) continue;
    if (!text.empty()) text += ",\n";
    text += fmt::format("{}:{}", json(table.entries[id].text).dump(), id);
  }
  return text;
}

json added_tokens(const TokenTable& table) {
  json list = json::array();
  for (std::size_t id = 0; id < table.entries.size(); ++id) {
    const TokenTable::Entry& entry = table.entries[id];
    if (!is_added(entry)) continue;
    list.push_back({{"id", id},
                    {"content", entry.text},
                    {"single_word", false},
                    {"lstrip", false},
                    {"rstrip", false},
                    {"normalized", false},
                    {"special", entry.kind == TokenTable::Kind::kSpecial}});
  }
  return list;
}

// Puts bos before a text, and before both of a pair; null if the table does not ask for it.
json post_processor(const TokenTable& table) {
  if (!table.add_bos || table.bos < 0) return nullptr;
  const std::string bos = text_of(table, table.bos);
  const auto special = [&](int type) {
    return json{{"SpecialToken", {{"id", bos}, {"type_id", type}}}};
  };
  const auto sequence = [](const char* name, int type) {
    return json{{"Sequence", {{"id", name}, {"type_id", type}}}};
  };
  const json token = {{"id", bos}, {"ids", {table.bos}}, {"tokens", {bos}}};
  return {{"type", "TemplateProcessing"},
          {"single", {special(0), sequence("A", 0)}},
          {"pair", {special(0), sequence("A", 0), special(1), sequence("B", 1)}},
          {"special_tokens", {{bos, token}}}};
}

}  // namespace

TokenizerConfig parse_tokenizer_config(const std::string& text, const std::string& origin) {
  if (text.empty()) return {};
  check_json_nesting(text, origin);
  const json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) fail(ExitCode::kData, "{}: no JSON object; remove or repair it", origin);
  TokenizerConfig config;
  config.bos_token = token_text(root, "bos_token", origin);
  config.eos_token = token_text(root, "eos_token", origin);
  config.chat = chat_templates(root);
  if (root.contains("add_bos_token")) {
    config.add_bos = bool_field(root, "add_bos_token", false, origin) ? 1 : 0;
  }
  return config;
}

std::string compose_tokenizer(const TokenTable& table, const std::string& pre_tokenizer_json,
                              const std::string& normalizer_json, bool ignore_merges) {
  std::string merges;
  for (const auto& [left, right] : table.merges) {
    if (!merges.empty()) merges += ",\n";
    merges += json(left + " " + right).dump();
  }
  const json decoder = {{"type", "ByteLevel"},
                        {"add_prefix_space", false},
                        {"trim_offsets", true},
                        {"use_regex", false}};
  return fmt::format(
      "{{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\n\"added_tokens\":{},\n"
      "\"normalizer\":{},\n\"pre_tokenizer\":{},\n\"post_processor\":{},\n\"decoder\":{},\n"
      "\"model\":{{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
      "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,\"fuse_unk\":false,"
      "\"byte_fallback\":false,\"ignore_merges\":{},\n\"vocab\":{{\n{}\n}},\n\"merges\":[\n{}\n]}}}"
      "}"
      "\n",
      added_tokens(table).dump(), normalizer_json, pre_tokenizer_json, post_processor(table).dump(),
      decoder.dump(), ignore_merges, vocabulary(table), merges);
}

std::string compose_config(const TokenTable& table) {
  ordered_json config;
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  config["add_prefix_space"] = false;
  config["clean_up_tokenization_spaces"] = false;
  if (table.bos >= 0) config["bos_token"] = text_of(table, table.bos);
  if (table.bos >= 0) config["add_bos_token"] = table.add_bos;
  if (table.eos >= 0) config["eos_token"] = text_of(table, table.eos);
  if (!table.chat.empty()) config["chat_template"] = chat_json(table.chat);
  return config.dump(2) + "\n";
}

std::string compose_special_tokens(const TokenTable& table) {
  ordered_json tokens = ordered_json::object();
  if (table.bos >= 0) tokens["bos_token"] = text_of(table, table.bos);
  if (table.eos >= 0) tokens["eos_token"] = text_of(table, table.eos);
  return tokens.dump(2) + "\n";
}

std::string with_eos_token(const std::string& config, const std::string& eos_token) {
  ordered_json root = ordered_json::parse(config, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) root = ordered_json::object();
  root["eos_token"] = eos_token;
  return root.dump(2) + "\n";
}

}  // namespace lockstep
