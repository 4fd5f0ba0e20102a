// The tokenizer of a prepare run: one that exists, or one to be trained on the corpus itself.
#pragma once

#include "data/bpe_train.h"
#include "data/prepare.h"
#include "data/tokenizer.h"

#include <memory>

namespace lockstep {

// Exactly one of the two is set.
struct PrepareTokenizer {
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<BpeTrainer> trainer;
};

// Throws UserError: kUsage (unknown kind, options that do not go together, a tokenizer without an
// end-of-text token), kData (files that are not understood).
PrepareTokenizer open_prepare_tokenizer(const PrepareOptions& options);

}  // namespace lockstep
