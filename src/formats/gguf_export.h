// Writes a model as a GGUF file that llama.cpp loads: tensors under its names and in its row order,
// one at a time and in pieces, so that memory does not grow with the model.
#pragma once

#include "core/weight_source.h"
#include "data/tokenizer.h"
#include "formats/generation_config.h"
#include "formats/gguf.h"
#include "nn/model_config.h"

#include "nn/parameters.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace lockstep {

struct GgufExport {
  ModelConfig config;              // resolved
  std::string name;                // general.name
  GgufType type = GgufType::kF16;  // of matrices; vectors and the position table stay F32
  std::string tokenizer_pre;       // llama.cpp's name, or "": from the tokenizer
  const Tokenizer* tokenizer = nullptr;
  GenerationConfig generation;  // where it says nothing, the tokenizer does
  WeightFormats formats{};      // of matrices that a scheme keeps in another format than `type`
  std::string origin;           // names the model in messages
};

struct GgufSummary {
  std::string architecture;         // general.architecture
  std::int64_t bytes = 0;           // of the file
  std::vector<std::string> as_f16;  // tensors whose rows Q8_0's blocks do not divide
};

// Values written so far, and of how many.
using GgufProgress = std::function<void(std::int64_t done, std::int64_t total)>;

// Writes the new file `path` and syncs it; `weights` has our names. Same input, same bytes. Throws
// UserError: kUsage without a tokenizer or a name for its pre-tokenizer, kConfig for a shape that
// llama.cpp cannot run, kData for a value that is not finite or that `type` cannot hold (naming the
// origin and the tensor), kIo.
GgufSummary write_gguf(const std::string& path, const GgufExport& model, WeightSource& weights,
                       const GgufProgress& progress = {});

}  // namespace lockstep
