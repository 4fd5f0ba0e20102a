// Reads tokenizer.json. Every part is either understood or refused by name: a part that is skipped
// would give other ids than the library the file was made for.
#include "data/bpe_file.h"

#include "core/error.h"
#include "core/json_nesting.h"
#include "data/json_checks.h"
#include "data/nfc.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace lockstep {
namespace {

using nlohmann::json;

constexpr std::int64_t kMaxId = 1 << 24;
constexpr std::size_t kMaxGaps = 1 << 20;
constexpr std::size_t kMaxAddedBytes = 16 << 20;
constexpr std::size_t kMaxFile = std::size_t{256} << 20;

class Reader {
 public:
  Reader(const json& root, const std::string& origin) : root_(root), origin_(origin) {}

  BpeFile run() {
    read_model();
    read_vocabulary();
    read_added();
    make_table();
    read_merges();
    read_normalizer(root_.value("normalizer", json()));
    read_decoder(root_.value("decoder", json()));
    read_prefix(root_.value("post_processor", json()));
    const json pre = root_.value("pre_tokenizer", json());
    if (!pre.is_object()) refuse("pre_tokenizer is missing; only ByteLevel ones are supported");
    file_.pre_tokenizer = pre.dump();
    return std::move(file_);
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    fail(ExitCode::kData, "{}: {}", origin_, what);
  }
  [[noreturn]] void refuse_type(const char* part, const json& value, const char* known) const {
    const std::string type = type_of(value);
    refuse(fmt::format("{} type '{}' is not supported; known: {}", part, shown(type), known));
  }
  static std::string type_of(const json& value) {
    if (!value.is_object()) return value.type_name();
    const auto found = value.find("type");
    return found != value.end() && found->is_string() ? found->get<std::string>() : "";
  }
  bool is_flag(const json& object, const char* key, bool absent = false) const {
    return bool_field(object, key, absent, origin_);
  }

  void read_model() {
    const auto found = root_.find("model");
    if (found == root_.end() || !found->is_object()) refuse("'model' is missing; no tokenizer");
    model_ = &*found;
    // Old files do not name the type of a BPE model.
    const bool named = model_->contains("type");
    if ((named && type_of(*model_) != "BPE") || !model_->contains("merges")) {
      refuse_type("model", *model_, "BPE (byte-level)");
    }
    if (is_flag(*model_, "byte_fallback")) {
      refuse("model.byte_fallback is not supported; only byte-level BPE is");
    }
    const json dropout = model_->value("dropout", json());
    if (!dropout.is_null() && dropout != 0.0) refuse("model.dropout is not supported");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const json affix = model_->value(key, json());
      if (!affix.is_null() && affix != "") refuse(fmt::format("model.{} is not supported", key));
    }
    file_.ignore_merges = is_flag(*model_, "ignore_merges");
    const json unknown = model_->value("unk_token", json());
    if (unknown.is_string()) file_.unknown_token = unknown.get<std::string>();
    file_.fuse_unknown = is_flag(*model_, "fuse_unk");
  }

  std::int32_t id_of(const json& value, const std::string& text) const {
    if (!value.is_number_integer() || value < 0 || value >= kMaxId) {
      refuse(
          fmt::format("the id of token '{}' is no integer from 0 to {}", shown(text), kMaxId - 1));
    }
    return value.get<std::int32_t>();
  }

  void read_vocabulary() {
    const auto found = model_->find("vocab");
    if (found == model_->end() || !found->is_object())
      refuse("model.vocab is missing or no object");
    for (const auto& [text, value] : found->items()) place(id_of(value, text), text);
  }

  // Remembers a token; entries are made once all ids are known.
  void place(std::int32_t id, const std::string& text) {
    placed_.push_back({id, &text});
    highest_ = std::max(highest_, id);
  }

  void read_added() {
    const json none = json::array();
    const auto found = root_.find("added_tokens");
    const json& list = found == root_.end() || found->is_null() ? none : *found;
    if (!list.is_array()) refuse("added_tokens is no list");
    const json& vocab = (*model_)["vocab"];
    std::size_t bytes = 0;
    for (const json& item : list) {
      if (!item.is_object()) refuse("an entry of added_tokens is no object");
      AddedToken token;
      token.text = string_field(item, "content", origin_);
      if (token.text.empty()) continue;
      if (!item.contains("id")) refuse("an entry of added_tokens has no id");
      token.id = id_of(item["id"], token.text);
      token.special = is_flag(item, "special");
      token.single_word = is_flag(item, "single_word");
      token.lstrip = is_flag(item, "lstrip");
      token.rstrip = is_flag(item, "rstrip");
      token.normalized = is_flag(item, "normalized", !token.special);
      bytes += token.text.size();
      if (bytes > kMaxAddedBytes) refuse("added_tokens is too long; no tokenizer");
      const auto known = vocab.find(token.text);
      if (known == vocab.end()) {
        place(token.id, *item["content"].get_ptr<const std::string*>());
      } else if (*known != token.id) {
        refuse(fmt::format("token '{}' has id {} in added_tokens and another in model.vocab",
                           shown(token.text), token.id));
      }
      file_.added.push_back(std::move(token));
    }
  }

  void make_table() {
    if (placed_.empty()) refuse("model.vocab is empty");
    const auto size = static_cast<std::size_t>(highest_) + 1;
    if (size > placed_.size() + kMaxGaps) {
      refuse(fmt::format("{} tokens have ids up to {}; no tokenizer leaves such gaps",
                         placed_.size(), highest_));
    }
    auto& entries = file_.table.entries;
    entries.assign(size, {"", TokenTable::Kind::kUnused});
    for (const auto& [id, text] : placed_) {
      TokenTable::Entry& entry = entries[static_cast<std::size_t>(id)];
      if (entry.kind != TokenTable::Kind::kUnused) {
        refuse(fmt::format("id {} belongs to two tokens, '{}' and '{}'", id, shown(entry.text),
                           shown(*text)));
      }
      entry = {*text, TokenTable::Kind::kNormal};
    }
    for (const AddedToken& token : file_.added) {
      entries[static_cast<std::size_t>(token.id)].kind =
          token.special ? TokenTable::Kind::kSpecial : TokenTable::Kind::kAdded;
    }
  }

  // ["a b", ...] or [["a", "b"], ...]
  void read_merges() {
    const json& merges = (*model_)["merges"];
    if (!merges.is_array()) refuse("model.merges is no list");
    file_.table.merges.reserve(merges.size());
    for (const json& merge : merges) {
      if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        file_.table.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
        continue;
      }
      const auto* line = merge.is_string() ? merge.get_ptr<const std::string*>() : nullptr;
      const std::size_t space = line == nullptr ? std::string::npos : line->find(' ');
      if (space == std::string::npos || line->find(' ', space + 1) != std::string::npos) {
        refuse(fmt::format("entry {} of model.merges is neither \"a b\" nor [\"a\", \"b\"]",
                           file_.table.merges.size()));
      }
      file_.table.merges.emplace_back(line->substr(0, space), line->substr(space + 1));
    }
  }

  void read_normalizer(const json& value) {
    if (value.is_null()) return;
    if (type_of(value) == "NFC") {
      file_.normalizes = true;
    } else if (type_of(value) == "Sequence" && value.value("normalizers", json()).is_array()) {
      for (const json& item : value["normalizers"]) read_normalizer(item);
    } else {
      refuse_type("normalizer", value, "null, NFC, Sequence");
    }
  }

  void read_decoder(const json& value) const {
    if (value.is_null() || type_of(value) == "ByteLevel") return;
    if (type_of(value) == "Sequence" && value.value("decoders", json()).is_array()) {
      for (const json& item : value["decoders"]) read_decoder(item);
    } else {
      refuse_type("decoder", value, "ByteLevel, Sequence");
    }
  }

  // The special tokens that a TemplateProcessing puts before a text.
  void read_prefix(const json& value) {
    if (type_of(value) == "Sequence" && value.value("processors", json()).is_array()) {
      for (const json& item : value["processors"]) read_prefix(item);
    }
    if (type_of(value) != "TemplateProcessing" || !value.contains("single")) return;
    if (!value["single"].is_array() || !file_.prefix.empty()) return;
    for (const json& item : value["single"]) {
      const json token = item.is_object() ? item.value("SpecialToken", json()) : json();
      if (!token.is_object()) return;  // the text itself
      const json id = token.value("id", json());
      if (id.is_string()) file_.prefix.push_back(id.get<std::string>());
    }
  }

  const json& root_;
  const std::string& origin_;
  const json* model_ = nullptr;
  BpeFile file_;
  std::vector<std::pair<std::int32_t, const std::string*>> placed_;
  std::int32_t highest_ = -1;
};

}  // namespace

TokenIds ids_of(const TokenTable& table) {
  TokenIds ids;
  ids.reserve(table.entries.size());
  for (std::size_t id = 0; id < table.entries.size(); ++id) {
    const TokenTable::Entry& entry = table.entries[id];
    if (entry.kind != TokenTable::Kind::kUnused) {
      ids.emplace(entry.text, static_cast<std::int32_t>(id));
    }
  }
  return ids;
}

BpeFile parse_bpe_file(const std::string& tokenizer_json, const std::string& origin) {
  if (tokenizer_json.size() > kMaxFile) {
    fail(ExitCode::kData, "{}: {} bytes; no tokenizer.json is that long", origin,
         tokenizer_json.size());
  }
  check_json_nesting(tokenizer_json, origin);
  const json root = json::parse(tokenizer_json, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) {
    fail(ExitCode::kData, "{}: no JSON object; give a Hugging Face tokenizer.json", origin);
  }
  return Reader(root, origin).run();
}

}  // namespace lockstep
