// Whether the tokens of shards mean to a model what they meant when they were written: both often
// carry a tokenizer, and numbers from one vocabulary read in another are noise that nobody notices.
#pragma once

#include "core/error.h"
#include "data/tokenizer.h"

#include <string>
#include <vector>

namespace lockstep {

// A tokenizer and where it is from, for messages ("that of runs/tiny step 20").
struct TokenizerOf {
  const Tokenizer& tokenizer;
  std::string where;
};

// How to say no: the exit code, and what to do instead, or to go on all the same.
struct MismatchError {
  ExitCode code = ExitCode::kData;
  std::string remedy;
};

// Throws UserError naming both, and the first difference, when their vocabularies differ (see
// vocabulary_difference()).
void require_same_vocabulary(const TokenizerOf& first, const TokenizerOf& second,
                             const MismatchError& error);

// The same for every tokenizer that lies beside the shards of these patterns; `key` is what named
// them ("data.val"). One that cannot be opened says nothing.
void require_vocabulary_of_shards(const TokenizerOf& wanted,
                                  const std::vector<std::string>& patterns, const std::string& key,
                                  const MismatchError& error);

}  // namespace lockstep
