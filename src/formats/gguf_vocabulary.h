// A tokenizer in a GGUF file (tokenizer.ggml.*): byte-level BPE as llama.cpp knows it, and bytes,
// which are the same without merges.
#pragma once

#include "data/tokenizer.h"
#include "formats/generation_config.h"
#include "formats/gguf.h"

#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace lockstep {

// Throws UserError(kUsage) naming --tokenizer-pre when `name` (of llama.cpp's for a pre-tokenizer;
// "" is none) is not known.
void check_pre_tokenizer(const std::string& name);

// Adds the keys for a model with `rows` token ids; ids that the tokenizer does not have become
// unused tokens. What begins and ends a text says `generation`, else the tokenizer. `pre`:
// llama.cpp's name of the pre-tokenizer, "" takes the tokenizer's own. Throws UserError(kUsage)
// when that is unknown, naming --tokenizer-pre.
void add_vocabulary(GgufMetadata& metadata, const Tokenizer& tokenizer,
                    const GenerationConfig& generation, const std::string& pre, std::int64_t rows);

// What the file says of generating: our own key, else the ids that llama.cpp ends a text at, which
// are those of three keys and of control tokens with well-known texts.
GenerationConfig read_generation(const std::map<std::string, GgufValue>& metadata,
                                 const std::string& path, std::int64_t vocab);

// The tokenizer of a file, or null and why in `error` ("" when the file has none at all).
std::unique_ptr<Tokenizer> read_vocabulary(std::string& error,
                                           const std::map<std::string, GgufValue>& metadata,
                                           const std::string& path);

}  // namespace lockstep
