// Parts of a tokenizer.json put together; see bpe_file for what is read, text_splitter and
// bpe_model for what encodes.
#include "data/bpe_tokenizer.h"

#include "core/error.h"
#include "core/utf8.h"
#include "data/byte_alphabet.h"
#include "data/json_checks.h"
#include "data/tokenizer_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

namespace lockstep {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

// DIR/tokenizer.json -> DIR/tokenizer_config.json
std::string config_origin(const std::string& origin) {
  constexpr std::string_view kName = "tokenizer.json";
  if (!origin.ends_with(kName)) return origin + ": tokenizer_config.json";
  return origin.substr(0, origin.size() - kName.size()) + "tokenizer_config.json";
}

// Replaces the text of a file, or adds it.
void set_text(std::vector<NamedText>& files, const char* name, std::string text) {
  const auto found = std::find_if(files.begin(), files.end(),
                                  [&](const NamedText& file) { return file.name == name; });
  if (found != files.end()) {
    found->text = std::move(text);
  } else {
    files.push_back({name, std::move(text)});
  }
}

}  // namespace

struct BpeTokenizer::Scratch {
  SplitScratch split;
  BpeScratch bpe;
};

class BpeTokenizer::Sink : public SplitSink {
 public:
  Sink(const BpeModel& model, BpeScratch& scratch, std::vector<std::int32_t>& ids)
      : model_(model), scratch_(scratch), ids_(ids) {}
  void piece(std::string_view bytes) override { dropped_ += model_.encode(bytes, scratch_, ids_); }
  void token(std::int32_t id) override { ids_.push_back(id); }
  std::size_t dropped() const { return dropped_; }

 private:
  const BpeModel& model_;
  BpeScratch& scratch_;
  std::vector<std::int32_t>& ids_;
  std::size_t dropped_ = 0;
};

BpeTokenizer::BpeTokenizer(std::vector<NamedText> files, const std::string& origin,
                           const std::string& eos_token)
    : files_(std::move(files)) {
  const std::string* json = find_text(files_, kTokenizerJson);
  CHECK(json != nullptr, "{}", origin);
  BpeFile file = parse_bpe_file(*json, origin);
  table_ = std::move(file.table);
  table_.ignore_merges = file.ignore_merges;
  const TokenIds ids = ids_of(table_);
  build_model(file, ids, origin);
  splitter_ = std::make_unique<TextSplitter>(PreTokenizer(file.pre_tokenizer, origin),
                                             file.normalizes, file.added, origin);
  table_.pre_tokenizer = splitter_->pre_tokenizer_name();
  read_config(file, ids, origin);
  if (!eos_token.empty()) set_eos(eos_token, ids);
  complete_files();
  build_pieces();
}

BpeTokenizer::~BpeTokenizer() = default;

void BpeTokenizer::build_model(const BpeFile& file, const TokenIds& ids,
                               const std::string& origin) {
  const auto id_of = [&](const std::string& text) {
    const auto found = ids.find(text);
    return found == ids.end() ? -1 : found->second;
  };
  BpeBytes bytes;
  for (std::size_t byte = 0; byte < bytes.ids.size(); ++byte) {
    const char value = static_cast<char>(byte);
    bytes.ids[byte] = id_of(to_alphabet({&value, 1}));
  }
  if (std::all_of(bytes.ids.begin(), bytes.ids.end(), [](std::int32_t id) { return id < 0; })) {
    fail(ExitCode::kData, "{}: model.vocab has no token for any byte; only byte-level BPE works",
         origin);
  }
  bytes.fuse_unknown = file.fuse_unknown;
  if (!file.unknown_token.empty()) bytes.unknown = id_of(file.unknown_token);
  BpeModel::Words whole;
  if (file.ignore_merges) {
    for (const auto& [text, id] : ids) {
      std::string word;
      if (from_alphabet(word, text)) whole.emplace(std::move(word), id);
    }
  }
  model_ = std::make_unique<BpeModel>(bytes, merges_by_id(ids, origin), std::move(whole));
}

std::vector<BpeMerge> BpeTokenizer::merges_by_id(const TokenIds& ids,
                                                 const std::string& origin) const {
  std::vector<BpeMerge> merges;
  merges.reserve(table_.merges.size());
  for (const auto& [left, right] : table_.merges) {
    BpeMerge& merge = merges.emplace_back();
    const std::array<std::pair<std::int32_t*, std::string>, 3> parts = {
        {{&merge.left, left}, {&merge.right, right}, {&merge.result, left + right}}};
    for (const auto& [id, text] : parts) {
      const auto found = ids.find(text);
      if (found == ids.end()) {
        fail(ExitCode::kData, "{}: merge {} ('{} {}') needs token '{}', which model.vocab lacks",
             origin, merges.size() - 1, shown(left), shown(right), shown(text));
      }
      *id = found->second;
    }
  }
  return merges;
}

void BpeTokenizer::read_config(const BpeFile& file, const TokenIds& ids,
                               const std::string& origin) {
  const std::string* text = find_text(files_, kTokenizerConfig);
  TokenizerConfig config =
      parse_tokenizer_config(text == nullptr ? "" : *text, config_origin(origin));
  const auto id_of = [&](const std::string& token) {
    const auto found = ids.find(token);
    return found == ids.end() ? -1 : found->second;
  };
  table_.bos = id_of(config.bos_token);
  table_.eos = id_of(config.eos_token);
  if (!config.eos_token.empty() && table_.eos < 0) {
    fail(ExitCode::kData, "{}: eos_token '{}' is no token of {}", config_origin(origin),
         shown(config.eos_token), origin);
  }
  for (const std::string& token : file.prefix) {
    if (id_of(token) >= 0) prefix_.push_back(id_of(token));
  }
  if (table_.bos < 0 && !prefix_.empty()) table_.bos = prefix_.front();
  const bool templated = !prefix_.empty() && prefix_.front() == table_.bos;
  table_.add_bos = table_.bos >= 0 && (config.add_bos == -1 ? templated : config.add_bos == 1);
  if (table_.add_bos && !templated) prefix_.insert(prefix_.begin(), table_.bos);
  if (!table_.add_bos && templated) prefix_.erase(prefix_.begin());
  read_chat_templates(std::move(config.chat));
}

// Files of their own stand before what tokenizer_config.json says.
void BpeTokenizer::read_chat_templates(ChatTemplates configured) {
  for (const NamedText& file : files_) {
    if (file.name == kChatTemplate) table_.chat.standard = file.text;
    const std::string name = chat_template_name(file.name);
    if (!name.empty()) table_.chat.add(name, file.text);
  }
  if (table_.chat.empty()) table_.chat = std::move(configured);
}

void BpeTokenizer::set_eos(const std::string& eos_token, const TokenIds& ids) {
  const auto found = ids.find(eos_token);
  if (found == ids.end()) {
    fail(ExitCode::kUsage, "eos token '{}' is no token of this tokenizer; name one that is",
         shown(eos_token));
  }
  if (found->second == table_.eos) return;
  table_.eos = found->second;
  for (const char* name : {kTokenizerConfig, kSpecialTokens}) {
    const std::string* text = find_text(files_, name);
    if (text != nullptr) set_text(files_, name, with_eos_token(*text, eos_token));
  }
}

// What a table says and no file does yet: the library reads special tokens from these two.
void BpeTokenizer::complete_files() {
  if (find_text(files_, kTokenizerConfig) == nullptr) {
    set_text(files_, kTokenizerConfig, compose_config(table_));
  }
  if (find_text(files_, kSpecialTokens) == nullptr) {
    set_text(files_, kSpecialTokens, compose_special_tokens(table_));
  }
}

std::vector<NamedText> BpeTokenizer::hugging_face_files() const {
  std::vector<NamedText> files = files_;
  std::erase_if(files, [](const NamedText& file) { return file.name == kGenerationConfig; });
  return files;
}

std::string BpeTokenizer::generation_config() const {
  const std::string* text = find_text(files_, kGenerationConfig);
  return text == nullptr ? "" : *text;
}

void BpeTokenizer::build_pieces() {
  ends_.reserve(table_.entries.size());
  for (const TokenTable::Entry& entry : table_.entries) {
    const bool mapped =
        entry.kind == TokenTable::Kind::kNormal && from_alphabet(bytes_, entry.text);
    if (!mapped) bytes_ += entry.kind == TokenTable::Kind::kUnused ? kReplacement : entry.text;
    CHECK(bytes_.size() < std::numeric_limits<std::uint32_t>::max(), "{} bytes", bytes_.size());
    ends_.push_back(static_cast<std::uint32_t>(bytes_.size()));
  }
}

std::unique_ptr<BpeTokenizer::Scratch> BpeTokenizer::take_scratch() const {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) return std::make_unique<Scratch>();
  std::unique_ptr<Scratch> scratch = std::move(idle_.back());
  idle_.pop_back();
  return scratch;
}

void BpeTokenizer::encode(std::string_view text, std::vector<std::int32_t>& ids) const {
  std::unique_ptr<Scratch> scratch = take_scratch();
  Sink sink(*model_, scratch->bpe, ids);
  splitter_->split(text, scratch->split, sink);
  if (sink.dropped() > 0) dropped_ += static_cast<std::int64_t>(sink.dropped());
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(scratch));
}

std::string BpeTokenizer::decode(const std::vector<std::int32_t>& ids) const {
  std::string text;
  for (const std::int32_t id : ids) {
    if (id < 0 || static_cast<std::size_t>(id) >= ends_.size()) {
      text += kReplacement;  // a model with a padded vocabulary may sample such an id
      continue;
    }
    const std::size_t begin = id == 0 ? 0 : ends_[static_cast<std::size_t>(id) - 1];
    text.append(bytes_, begin, ends_[static_cast<std::size_t>(id)] - begin);
  }
  return text;
}

}  // namespace lockstep
