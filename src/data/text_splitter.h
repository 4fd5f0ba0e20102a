// From a text to the pieces that BPE works on: added tokens, normalization, pre-tokenization, in
// Hugging Face's order. That library takes valid text only; here any bytes are taken: a maximal
// stretch in which no valid character starts is a piece of its own, never normalized, and the valid
// stretches on both sides are split as separate texts.
#pragma once

#include "data/added_tokens.h"
#include "data/pre_tokenizer.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

// Takes pieces, and added tokens between them.
class SplitSink : public PieceSink {
 public:
  virtual void token(std::int32_t id) = 0;
};

// What one thread needs.
struct SplitScratch {
  RegexScratch regex;
  std::vector<TokenMatch> matches;
  std::vector<TokenMatch> normalized_matches;
  std::string normalized;
};

class TextSplitter {
 public:
  TextSplitter(PreTokenizer pre_tokenizer, bool normalizes, const std::vector<AddedToken>& added,
               const std::string& origin);

  void split(std::string_view text, SplitScratch& scratch, SplitSink& sink) const;

  // As Tokenizer::safe_cut. Known for most pre-tokenizers that have a name, see
  // pre_tokenizer_boundary(); the second character must not combine under normalization, and no
  // added token may reach or touch the place.
  std::size_t safe_cut(std::string_view text) const;

  const std::string& pre_tokenizer_name() const { return pre_tokenizer_.name(); }

 private:
  void split_section(std::string_view section, SplitScratch& scratch, SplitSink& sink) const;
  void split_valid(std::string_view text, SplitScratch& scratch, SplitSink& sink) const;
  bool may_cut(std::string_view text, std::size_t pos, RegexScratch& scratch) const;
  bool token_touches(std::string_view text, std::size_t pos) const;

  PreTokenizer pre_tokenizer_;
  bool normalizes_;
  TokenMatcher tokens_;             // looked for in the text as it stands
  TokenMatcher normalized_tokens_;  // in normalized text
  std::optional<Regex> boundary_;   // two characters between which text may be cut
};

}  // namespace lockstep
