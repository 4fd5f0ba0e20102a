// The byte-level BPE tokenizer. Scratch (caches, buffers) is lent to each call from a pool, so that
// threads share nothing while they work and a cache lives on from call to call.
#pragma once

#include "data/bpe_file.h"
#include "data/bpe_model.h"
#include "data/text_splitter.h"
#include "data/tokenizer.h"

#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace lockstep {

// The files that make up a tokenizer; "" for one that is absent.
struct TokenizerTexts {
  std::string tokenizer;       // tokenizer.json
  std::string config;          // tokenizer_config.json
  std::string special_tokens;  // special_tokens_map.json
};

class BpeTokenizer : public Tokenizer {
 public:
  // `eos_token` as in open_tokenizer(). Throws as it does.
  BpeTokenizer(TokenizerTexts texts, const std::string& origin, const std::string& eos_token);
  ~BpeTokenizer() override;

  std::string_view name() const override { return "bpe"; }
  std::int64_t vocab_size() const override {
    return static_cast<std::int64_t>(table_.entries.size());
  }
  void encode(std::string_view text, std::vector<std::int32_t>& ids) const override;
  std::string decode(const std::vector<std::int32_t>& ids) const override;
  std::size_t safe_cut(std::string_view text) const override { return splitter_->safe_cut(text); }
  std::int32_t end_of_text() const override { return table_.eos; }
  const TokenTable& table() const override { return table_; }
  void save(const std::string& directory) const override;
  void save_hugging_face(const std::string& directory) const override { save(directory); }

 private:
  struct Scratch;
  class Sink;

  void build_model(const BpeFile& file, const TokenIds& ids, const std::string& origin);
  void read_config(const std::string& first_token, const TokenIds& ids, const std::string& origin);
  void set_eos(const std::string& eos_token, const TokenIds& ids);
  void build_pieces();
  std::unique_ptr<Scratch> take_scratch() const;

  TokenizerTexts texts_;
  TokenTable table_;
  std::string bytes_;                // what the tokens decode to, in a row
  std::vector<std::uint32_t> ends_;  // by id, in bytes_
  std::unique_ptr<TextSplitter> splitter_;
  std::unique_ptr<BpeModel> model_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> idle_;
};

// Writes the three files; those whose text is "" are made from `table`.
void write_tokenizer_files(const std::string& directory, const TokenizerTexts& texts,
                           const TokenTable& table);

}  // namespace lockstep
