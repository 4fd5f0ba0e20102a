// The byte tokenizer: 256 ids, the identity.
#pragma once

#include "data/tokenizer.h"

#include <memory>
#include <string>

namespace lockstep {

std::unique_ptr<Tokenizer> make_byte_tokenizer();

// The one that save() described in this meta.json. Throws UserError(kData).
std::unique_ptr<Tokenizer> open_byte_tokenizer(const std::string& meta_path);

inline constexpr const char* kTokenizerMetaFile = "meta.json";

}  // namespace lockstep
