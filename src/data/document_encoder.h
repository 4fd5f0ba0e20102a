// What encoder threads do with a piece of the corpus: find its documents, turn them into tokens for
// both sides, put the end-of-text token behind each and mask prompts.
#pragma once

#include "data/corpus_reader.h"
#include "data/json_document.h"
#include "data/shard_series.h"
#include "data/tokenizer.h"

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

struct EncodedPiece {
  TokenRun train;
  TokenRun val;
  std::size_t input = 0;
  std::int64_t documents = 0;
  std::int64_t empty_documents = 0;  // left out
  std::int64_t replaced = 0;         // halves of surrogate pairs, U+FFFD now
  std::int64_t bytes = 0;            // of text
  std::int64_t stored = 0;           // of the file
};

// Both functions may be called from several threads at once. The inputs and the split must outlive
// the calls. Throw UserError(kData) naming FILE:LINE.
class DocumentEncoder {
 public:
  DocumentEncoder(const std::vector<TextInput>& inputs, const Split& split, std::string text_field)
      : inputs_(inputs), split_(split), text_field_(std::move(text_field)) {}
  EncodedPiece encode(const CorpusJob& job, const Tokenizer& tokenizer) const;
  // Only hands out the texts, prompts and completions apart; the result has counts but no tokens.
  EncodedPiece visit(const CorpusJob& job,
                     const std::function<void(std::string_view text)>& use) const;

 private:
  using UseLine = std::function<void(const JsonDocument& document, std::int64_t number)>;
  void each_document(EncodedPiece& counts, const CorpusJob& job, const UseLine& use) const;
  void encode_line(EncodedPiece& out, const CorpusJob& job, const JsonDocument& document,
                   std::int64_t number, const Tokenizer& tokenizer) const;

  const std::vector<TextInput>& inputs_;
  const Split& split_;
  std::string text_field_;
};

}  // namespace lockstep
