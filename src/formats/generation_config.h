// What a model says of generating text: the tokens that begin and end it, and all else that its
// generation_config.json holds. Kept whole from import through checkpoints to export.
#pragma once

#include "data/tokenizer.h"

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep {

struct GenerationConfig {
  std::string text;               // the JSON object, with the ids below in it; "": says nothing
  std::int32_t bos = -1;          // -1: none
  std::vector<std::int32_t> eos;  // any of them ends a text; each once
};

// `text` is generation_config.json's, or ""; its ids go before those that config.json gave. Ids
// outside the vocabulary (defaults that nobody changed) name no token and are left out. Throws
// UserError(kData) naming `path` and the key.
GenerationConfig parse_generation_config(const std::string& text, const std::string& path,
                                         std::int64_t vocab, std::int32_t bos = -1,
                                         const std::vector<std::int32_t>& eos = {});

// The same with one more id that ends a text; nothing changes when it is there, or -1.
GenerationConfig with_end_token(const GenerationConfig& config, std::int32_t end);

// The same with the tokenizer's first and last token where `config` names none.
GenerationConfig completed(const GenerationConfig& config, const TokenTable& table);

}  // namespace lockstep
