// Text to token ids and back: bytes (vocabulary 256, identity), and byte-level BPE as Hugging
// Face's tokenizer.json describes it, read as data and not by model name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lockstep {

// A vocabulary as exporters need it.
struct TokenTable {
  enum class Kind {
    kNormal,   // text in the byte-to-unicode alphabet of GPT-2
    kAdded,    // an added token that is not special; text as it stands
    kSpecial,  // a control token; text as it stands
    kUnused    // an id without a token
  };
  struct Entry {
    std::string text;
    Kind kind = Kind::kNormal;
  };
  std::vector<Entry> entries;                               // by id
  std::vector<std::pair<std::string, std::string>> merges;  // by rank, same alphabet
  std::string pre_tokenizer;  // gpt2 | qwen2 | llama3 | deepseek, or "": none of these
  std::int32_t bos = -1;
  std::int32_t eos = -1;
  bool add_bos = false;
  std::string chat_template;  // "" if there is none
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::string_view name() const = 0;  // "byte" or "bpe"
  virtual std::int64_t vocab_size() const = 0;
  // Appends the ids of `text` to `ids`; no special tokens are added around it. Any bytes are
  // allowed. May be called from several threads at once.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& ids) const = 0;
  // decode(encode(x)) == x for any bytes; special tokens decode to their text.
  virtual std::string decode(const std::vector<std::int32_t>& ids) const = 0;
  // The largest position at which `text`, the beginning of a longer document, may be cut so that
  // the ids of both sides in a row are those of the whole, whatever follows; 0 if there is none.
  virtual std::size_t safe_cut(std::string_view text) const = 0;
  // Id that separates documents and ends generation, or -1.
  virtual std::int32_t end_of_text() const = 0;
  virtual const TokenTable& table() const = 0;
  // Writes the files that open_tokenizer() reads back into `directory`, which must exist; for BPE
  // Hugging Face's tokenizer.json, tokenizer_config.json and special_tokens_map.json.
  virtual void save(const std::string& directory) const = 0;
  // The same three files for any tokenizer, so that Hugging Face's library loads it.
  virtual void save_hugging_face(const std::string& directory) const = 0;
};

// "byte"; a tokenizer.json; a directory with one (and tokenizer_config.json, if any), one that
// save() wrote, or a `prepare` output directory. `eos_token`: text of the end-of-text token, ""
// takes tokenizer_config.json's. Throws UserError(kData) for a file that is not understood, naming
// it and the part; UserError(kUsage) for an unknown kind or an eos_token that is no token.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& spec,
                                          const std::string& eos_token = "");

// From the two files' texts (the second may be ""); `origin` names them in messages.
std::unique_ptr<Tokenizer> parse_tokenizer(const std::string& tokenizer_json,
                                           const std::string& tokenizer_config,
                                           const std::string& origin);

// A BPE tokenizer from its table (as a GGUF file holds it); needs table.pre_tokenizer.
std::unique_ptr<Tokenizer> make_tokenizer(const TokenTable& table, const std::string& origin);

}  // namespace lockstep
