// Text to token ids and back: bytes (vocabulary 256, identity), and byte-level BPE as Hugging
// Face's tokenizer.json describes it, read as data and not by model name.
#pragma once

#include "core/named_text.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lockstep {

// Templates that turn a conversation into a text; kept and passed on, not run.
struct ChatTemplates {
  std::string standard;  // "" if there is none; under the name "default" in lists
  std::vector<std::pair<std::string, std::string>> named;  // others: name, text

  bool empty() const { return standard.empty() && named.empty(); }
  void add(const std::string& name, std::string text);
};

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
  std::string pre_tokenizer;   // one of pre_tokenizer_names(), or "": none of these
  bool ignore_merges = false;  // a piece that is a token as it stands is not merged
  std::int32_t bos = -1;
  std::int32_t eos = -1;
  bool add_bos = false;
  ChatTemplates chat;
};

// How two vocabularies differ, in words ("id 65 is 'A' in the first and 'b' in the second"), or ""
// when an id means the same in both: the same ordinary tokens and merges, and the same text where
// both have an added token. Added tokens that only one of them has do not count.
std::string vocabulary_difference(const TokenTable& first, const TokenTable& second);

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::string_view name() const = 0;  // "byte" or "bpe"
  virtual std::int64_t vocab_size() const = 0;
  // Appends the ids of `text` to `ids`; no special tokens are added around it. Any bytes are
  // allowed. May be called from several threads at once.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& ids) const = 0;
  // Bytes that encode() has left out so far, of all texts, because the vocabulary has no token for
  // them and no unknown token, as Hugging Face's library does.
  virtual std::int64_t dropped_bytes() const { return 0; }
  // What stands before a text that begins a document, mostly one beginning-of-text token: what the
  // post-processor (TemplateProcessing) or a GGUF file's add_bos_token puts there; often nothing.
  // encode() never adds it. `prepare` does not either: documents end with end_of_text(), and it
  // says so; shards are trained on and judged by `eval` as they are. `generate` puts it before the
  // prompt, as llama.cpp and transformers do.
  virtual std::vector<std::int32_t> prefix_tokens() const { return {}; }
  // decode(encode(x)) == x for any bytes (but dropped ones and normalized text); special tokens
  // decode to their text.
  virtual std::string decode(const std::vector<std::int32_t>& ids) const = 0;
  // The largest position at which `text`, the beginning of a longer document, may be cut so that
  // the ids of both sides in a row are those of the whole, whatever follows; 0 if there is none.
  virtual std::size_t safe_cut(std::string_view text) const = 0;
  // Id that separates documents and ends generation, or -1.
  virtual std::int32_t end_of_text() const = 0;
  virtual const TokenTable& table() const = 0;
  // The files that open_tokenizer() reads back, by name relative to their directory: those that it
  // was opened from, unchanged, and nothing else of that directory. For BPE these are Hugging
  // Face's (see tokenizer_files.h), with the model's generation_config.json where it lay beside.
  virtual std::vector<NamedText> files() const = 0;
  // What Hugging Face's library loads, for any tokenizer: without generation_config.json, which
  // belongs to the model.
  virtual std::vector<NamedText> hugging_face_files() const = 0;
  // The text of generation_config.json, "" where none came along.
  virtual std::string generation_config() const { return ""; }

  // Write these into `directory`, which must exist.
  void save(const std::string& directory) const;
  void save_hugging_face(const std::string& directory) const;
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
