// Writing a model as a Hugging Face directory, and what every export starts from.
#pragma once

#include "core/weight_source.h"
#include "data/tokenizer.h"
#include "formats/generation_config.h"
#include "nn/model_config.h"
#include "nn/parameters.h"

#include <cstdint>
#include <functional>
#include <string>

namespace lockstep {

// What is exported. Weights are by Lockstep's names and shapes.
struct ExportModel {
  ModelConfig config;  // resolved
  WeightSource* weights = nullptr;
  const Tokenizer* tokenizer = nullptr;  // null: without one
  GenerationConfig generation;           // where it says nothing, the tokenizer does
  std::string origin;                    // names the model in messages
};

// Called often while writing; it may throw to stop the export.
using ExportProgress = std::function<void(std::int64_t done, std::int64_t total)>;

struct HuggingFaceOptions {
  std::string dtype = "fp32";     // fp32 | bf16 | fp16
  std::string quantize = "none";  // none | w8a16 | w8a8
  WeightFormats formats{};        // which tensors it takes: int8 rows; empty: none
  std::int64_t max_file_bytes = std::int64_t{5} << 30;
  ExportProgress progress;
};

// Throws UserError(kUsage) when `quantize` cannot be applied to this model.
void check_hugging_face(const ModelConfig& config, const std::string& quantize);

// Bytes of all tensors, before anything is written.
std::int64_t hugging_face_bytes(const ModelConfig& config, const HuggingFaceOptions& options);

// Writes config.json, generation_config.json, the weights and the tokenizer into `directory`, which
// exists and is empty. Reads and writes at most 8 MiB at a time, or one row where that is larger.
// Throws UserError: kData for weights that are not finite (naming origin and tensor), kUsage for
// some beyond fp16's range, kIo.
void write_hugging_face(const std::string& directory, const ExportModel& model,
                        const HuggingFaceOptions& options);

}  // namespace lockstep
