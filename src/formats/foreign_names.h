// Where other programs keep our parameters: the tensor's name in a Hugging Face state dict or a
// GGUF file, and how its rows lie there. The one table behind importing and exporting.
#pragma once

#include "nn/model_config.h"
#include "nn/parameters.h"

#include <string>
#include <vector>

namespace lockstep {

enum class Naming { kHuggingFace, kGguf };

enum class RowLayout {
  kSame,
  kTransposed,   // stored [in, out]: GPT-2's Conv1D in Hugging Face's files
  kRotaryPairs,  // rows of each head reordered from halves to neighbour pairs: new 2j = old j, new
                 // 2j + 1 = old j + D/2 (q and k of a GGUF with architecture llama)
};

struct ForeignTensor {
  std::string name;
  RowLayout layout = RowLayout::kSame;
};

// `parameter` is one of declare_parameters() of this config.
ForeignTensor foreign_tensor(const ModelConfig& config, const Parameter& parameter, Naming naming);

// The model's parameters without buffers, in declaration order. `config` is resolved.
std::vector<Parameter> declared_parameters(const ModelConfig& config);

}  // namespace lockstep
