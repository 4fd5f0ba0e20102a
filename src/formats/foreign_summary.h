// What is in somebody's files although no model of ours can be built of them: an architecture, a
// tensor type or a tokenizer that is not supported, an adapter without its model. For looking at.
#pragma once

#include "core/weight_source.h"

#include <cstdint>
#include <string>

namespace lockstep {

struct ForeignSummary {
  std::string architecture;     // as the files name it; "" where they do not
  std::int64_t parameters = 0;  // values in all tensors
  std::string tensors;          // "24 x F32, 169 x Q4_K"
  std::int64_t layers = 0, hidden = 0, vocab = 0, seq_len = 0;  // 0: not said
  std::string tokenizer;   // "" where there is none, or it is not told apart
  std::string base_model;  // of an adapter
};

// "24 x F32, 169 x BF16"
std::string stored_types(const WeightSource& weights);

// Throw UserError(kData) where not even the tensors can be listed.
ForeignSummary summarize_gguf(const std::string& file);
ForeignSummary summarize_hugging_face(const std::string& directory);

// An adapter (LoRA and others): adapter_config.json without a model's config.json.
bool is_adapter(const std::string& directory);
ForeignSummary summarize_adapter(const std::string& directory);
// Throws UserError(kData) saying that it is an adapter, of what, and what to do.
[[noreturn]] void refuse_adapter(const std::string& directory, const std::string& what);

}  // namespace lockstep
