// Exports: weights in the files that other programs load, written beside their final name, and the
// report that says what was written and what it cost.
#pragma once

#include "core/weight_source.h"
#include "data/tokenizer.h"
#include "eval/evaluate.h"
#include "nn/model_config.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace lockstep {

// What is exported. Weights are by Lockstep's names and shapes.
struct ExportModel {
  ModelConfig config;  // resolved
  WeightSource* weights = nullptr;
  const Tokenizer* tokenizer = nullptr;  // null: without one
};

// Called often while writing; it may throw to stop the export.
using ExportProgress = std::function<void(std::int64_t done, std::int64_t total)>;

struct HuggingFaceOptions {
  std::string dtype = "fp32";     // fp32 | bf16 | fp16
  std::string quantize = "none";  // none | w8a16 | w8a8
  std::int64_t max_file_bytes = std::int64_t{5} << 30;
  ExportProgress progress;
};

// Throws UserError(kUsage) when `quantize` cannot be applied to this model.
void check_hugging_face(const ModelConfig& config, const std::string& quantize);

// Bytes of all tensors, before anything is written.
std::int64_t hugging_face_bytes(const ModelConfig& config, const HuggingFaceOptions& options);

// Writes config.json, generation_config.json, the weights and the tokenizer into `directory`, which
// exists and is empty. Reads and writes at most 8 MiB at a time, or one row where that is larger.
// Throws UserError: kData for weights that are not finite, kUsage for some beyond fp16's range,
// kIo.
void write_hugging_face(const std::string& directory, const ExportModel& model,
                        const HuggingFaceOptions& options);

// What export.json tells.
struct ExportReport {
  struct File {
    std::string name;
    std::int64_t bytes = 0;
    std::string sha256;
  };
  std::string format;        // safetensors | gguf
  std::string scheme;        // none | q8_0 | w8a16 | w8a8
  std::string dtype;         // of what is not quantized
  std::string source;        // "runs/tiny step 2000"
  std::string state_digest;  // "" where the source has none
  std::int64_t parameters = 0;
  std::vector<File> files;             // by name
  std::vector<std::string> fallbacks;  // tensors that are stored in another type than the scheme's
  std::vector<std::string> data;       // what was judged
  std::int64_t seq_len = 0;            // tokens per sequence of the judgement
  std::optional<Evaluation> before, after;  // of the source, and of the files re-opened
  std::vector<std::pair<std::string, std::string>> versions;

  std::int64_t bytes() const;
  double perplexity_change() const;  // percent; 0 without an evaluation
};

// Every file below `directory`, hashed, by name.
std::vector<ExportReport::File> hash_files(const std::string& directory);

// The text of export.json: the same report, the same bytes.
std::string export_report_text(const ExportReport& report);

}  // namespace lockstep
