// The tokenizer of whatever a user names: what open_tokenizer() takes, and also a run, a
// checkpoint, a Hugging Face directory, an export, or a GGUF file.
#pragma once

#include "data/tokenizer.h"

#include <memory>
#include <string>

namespace lockstep {

// `spec` and `eos_token` as in open_tokenizer(); a run's is that of its newest checkpoint. Throws
// as that does, and UserError(kData) where a file of a known kind brings no tokenizer.
std::unique_ptr<Tokenizer> open_any_tokenizer(const std::string& spec,
                                              const std::string& eos_token = "");

}  // namespace lockstep
