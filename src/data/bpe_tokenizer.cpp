// Parts of a tokenizer.json put together; see bpe_file for what is read, text_splitter and
// bpe_model for what encodes.
#include "data/bpe_tokenizer.h"

#include "core/error.h"
#include "data/byte_alphabet.h"
#include "data/file.h"
#include "data/json_checks.h"
#include "data/utf8.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
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

void write_text(const std::string& directory, const char* name, const std::string& text) {
  const std::string path = (std::filesystem::path(directory) / name).string();
  const Fd fd = create_file(path);
  write_all(fd, text.data(), text.size(), path);
  sync_file(fd, path);
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
  void piece(std::string_view bytes) override { model_.encode(bytes, scratch_, ids_); }
  void token(std::int32_t id) override { ids_.push_back(id); }

 private:
  const BpeModel& model_;
  BpeScratch& scratch_;
  std::vector<std::int32_t>& ids_;
};

BpeTokenizer::BpeTokenizer(TokenizerTexts texts, const std::string& origin,
                           const std::string& eos_token)
    : texts_(std::move(texts)) {
  BpeFile file = parse_bpe_file(texts_.tokenizer, origin);
  table_ = std::move(file.table);
  const TokenIds ids = ids_of(table_);
  build_model(file, ids, origin);
  splitter_ = std::make_unique<TextSplitter>(PreTokenizer(file.pre_tokenizer, origin),
                                             file.normalizes, file.added, origin);
  table_.pre_tokenizer = splitter_->pre_tokenizer_name();
  read_config(file.first_token, ids, origin);
  if (!eos_token.empty()) set_eos(eos_token, ids);
  build_pieces();
}

BpeTokenizer::~BpeTokenizer() = default;

void BpeTokenizer::build_model(const BpeFile& file, const TokenIds& ids,
                               const std::string& origin) {
  std::array<std::int32_t, 256> byte_ids{};
  for (std::size_t byte = 0; byte < byte_ids.size(); ++byte) {
    const char value = static_cast<char>(byte);
    const std::string text = to_alphabet({&value, 1});
    const auto found = ids.find(text);
    if (found == ids.end()) {
      fail(ExitCode::kData,
           "{}: model.vocab lacks byte 0x{:02x} ('{}'); only byte-level vocabularies with all 256 "
           "bytes are supported",
           origin, byte, text);
    }
    byte_ids[byte] = found->second;
  }
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
  BpeModel::Words whole;
  if (file.ignore_merges) {
    for (const auto& [text, id] : ids) {
      std::string bytes;
      if (from_alphabet(bytes, text)) whole.emplace(std::move(bytes), id);
    }
  }
  model_ = std::make_unique<BpeModel>(byte_ids, merges, std::move(whole));
}

void BpeTokenizer::read_config(const std::string& first_token, const TokenIds& ids,
                               const std::string& origin) {
  const TokenizerConfig config = parse_tokenizer_config(texts_.config, config_origin(origin));
  const auto id_of = [&](const std::string& text) {
    const auto found = ids.find(text);
    return found == ids.end() ? -1 : found->second;
  };
  table_.bos = id_of(config.bos_token);
  table_.eos = id_of(config.eos_token);
  if (!config.eos_token.empty() && table_.eos < 0) {
    fail(ExitCode::kData, "{}: eos_token '{}' is no token of {}", config_origin(origin),
         shown(config.eos_token), origin);
  }
  if (table_.bos < 0) table_.bos = id_of(first_token);
  const bool templated = table_.bos >= 0 && id_of(first_token) == table_.bos;
  table_.add_bos = table_.bos >= 0 && (config.add_bos == -1 ? templated : config.add_bos == 1);
  table_.chat_template = config.chat_template;
}

void BpeTokenizer::set_eos(const std::string& eos_token, const TokenIds& ids) {
  const auto found = ids.find(eos_token);
  if (found == ids.end()) {
    fail(ExitCode::kUsage, "eos token '{}' is no token of this tokenizer; name one that is",
         shown(eos_token));
  }
  if (found->second == table_.eos) return;
  table_.eos = found->second;
  texts_.config =
      texts_.config.empty() ? compose_config(table_) : with_eos_token(texts_.config, eos_token);
  if (!texts_.special_tokens.empty()) {
    texts_.special_tokens = with_eos_token(texts_.special_tokens, eos_token);
  }
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

void BpeTokenizer::save(const std::string& directory) const {
  write_tokenizer_files(directory, texts_, table_);
}

void write_tokenizer_files(const std::string& directory, const TokenizerTexts& texts,
                           const TokenTable& table) {
  const auto text_or = [](const std::string& text, const auto& make) {
    return text.empty() ? make() : text;
  };
  write_text(directory, "tokenizer.json", texts.tokenizer);
  write_text(directory, "tokenizer_config.json",
             text_or(texts.config, [&] { return compose_config(table); }));
  write_text(directory, "special_tokens_map.json",
             text_or(texts.special_tokens, [&] { return compose_special_tokens(table); }));
}

}  // namespace lockstep
