// Models that other programs wrote, and our own exports: opened as a shape, weights under our
// parameter names, and a tokenizer. Hugging Face directories and GGUF files.
#pragma once

#include "core/weight_source.h"
#include "data/tokenizer.h"
#include "formats/generation_config.h"
#include "nn/model_config.h"

#include <memory>
#include <string>

namespace lockstep {

struct ForeignModel {
  ModelConfig config;             // resolved
  std::string dtype;              // fp32 | bf16 | fp16: the type to compute in by default
  bool int8_activations = false;  // w8a8: inputs of linear layers are rounded to int8 per token
  std::unique_ptr<WeightSource> weights;  // by Lockstep's names and shapes, all of them
  std::unique_ptr<Tokenizer> tokenizer;   // null when the files bring none
  GenerationConfig generation;            // what the files say of text's begin and end
  std::string tokenizer_error;            // why there is none although there are files, or ""
};

// By name only: a directory with config.json; a regular file that begins with "GGUF".
bool is_hugging_face(const std::string& path);
bool is_gguf(const std::string& path);

// Throw UserError(kData) naming the file and the key or tensor: missing, damaged, of a shape that
// config contradicts, or not supported.
ForeignModel open_hugging_face(const std::string& directory);
ForeignModel open_gguf(const std::string& file);

// `source`, whose tensors have foreign names and layouts, seen under our names. Checks that every
// parameter is there with its shape; extra tensors are refused by name except known buffers
// (attention masks, rotary frequencies) and, where the output is tied, an lm_head that equals the
// embedding. Base models may lack their prefix. `origin` names the files in messages.
std::unique_ptr<WeightSource> under_our_names(std::unique_ptr<WeightSource> source,
                                              const ModelConfig& config, bool gguf,
                                              const std::string& origin);

}  // namespace lockstep
