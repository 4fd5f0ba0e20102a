// The byte-level BPE tokenizer. Scratch (caches, buffers) is lent to each call from a pool, so that
// threads share nothing while they work and a cache lives on from call to call.
#pragma once

#include "data/bpe_file.h"
#include "data/bpe_model.h"
#include "data/text_splitter.h"
#include "data/tokenizer.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace lockstep {

class BpeTokenizer : public Tokenizer {
 public:
  // `files` as read_tokenizer_files() gives them, `eos_token` as in open_tokenizer(). Throws as
  // that does.
  BpeTokenizer(std::vector<NamedText> files, const std::string& origin,
               const std::string& eos_token);
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
  std::int64_t dropped_bytes() const override { return dropped_; }
  std::vector<std::int32_t> prefix_tokens() const override { return prefix_; }
  std::vector<NamedText> files() const override { return files_; }
  std::vector<NamedText> hugging_face_files() const override;
  std::string generation_config() const override;

 private:
  struct Scratch;
  class Sink;

  void build_model(const BpeFile& file, const TokenIds& ids, const std::string& origin);
  std::vector<BpeMerge> merges_by_id(const TokenIds& ids, const std::string& origin) const;
  void read_config(const BpeFile& file, const TokenIds& ids, const std::string& origin);
  void read_chat_templates(ChatTemplates configured);
  void set_eos(const std::string& eos_token, const TokenIds& ids);
  void complete_files();
  void build_pieces();
  std::unique_ptr<Scratch> take_scratch() const;

  std::vector<NamedText> files_;
  TokenTable table_;
  std::vector<std::int32_t> prefix_;
  std::string bytes_;                // what the tokens decode to, in a row
  std::vector<std::uint32_t> ends_;  // by id, in bytes_
  std::unique_ptr<TextSplitter> splitter_;
  std::unique_ptr<BpeModel> model_;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> idle_;
  mutable std::atomic<std::int64_t> dropped_ = 0;
};

}  // namespace lockstep
