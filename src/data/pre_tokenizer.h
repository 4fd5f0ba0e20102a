// The pre-tokenizer of a tokenizer.json: cuts text into the pieces that BPE then works on, one by
// one. Read as data: a chain of Split, Digits and, last, ByteLevel steps.
#pragma once

#include "data/regex.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

// Takes what a text falls into, in order.
class PieceSink {
 public:
  virtual ~PieceSink() = default;
  virtual void piece(std::string_view bytes) = 0;
};

// Names of the published pre-tokenizers that are known: gpt2, qwen2, llama3, deepseek, smollm, ...
const std::vector<std::string>& pre_tokenizer_names();
// The JSON of "pre_tokenizer" for one of them, as its tokenizer.json has it.
std::string pre_tokenizer_json(std::string_view name);
// The JSON of "normalizer" that goes with it: NFC for qwen2, else null.
std::string normalizer_json(std::string_view name);
// The regular expression of two characters between which text may be cut anywhere, so that both
// sides are split as the whole is; "" where there is none, or for the name "".
std::string pre_tokenizer_boundary(std::string_view name);
// The name under which the JSON of a "pre_tokenizer" (which PreTokenizer accepts) is known, or "".
std::string known_pre_tokenizer(const std::string& json);

class PreTokenizer {
 public:
  // From the JSON of "pre_tokenizer". Throws UserError(kData) naming the part that is not
  // supported; `origin` names the file.
  PreTokenizer(const std::string& json, const std::string& origin);
  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;

  // Hands the pieces of `text` (valid UTF-8) to `sink`. What a step removes is left out, and a
  // prefix space is added as the steps say.
  void split(std::string_view text, RegexScratch& scratch, PieceSink& sink) const;

  // One of pre_tokenizer_names(), or "" if it is none of them.
  const std::string& name() const { return name_; }

 private:
  struct Step;
  void run(std::size_t step, std::string_view text, RegexScratch& scratch, PieceSink& sink) const;

  std::vector<Step> steps_;
  std::string name_;
};

}  // namespace lockstep
