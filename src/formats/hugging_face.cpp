// A Hugging Face directory: config.json says the shape, safetensors hold the weights,
// tokenizer.json the vocabulary.
#include "core/error.h"
#include "files/input_file.h"
#include "formats/compressed_tensors.h"
#include "formats/foreign_model.h"
#include "formats/hf_config.h"
#include "formats/safetensors.h"

#include <nlohmann/json.hpp>

#include <array>
#include <filesystem>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kMaxConfigBytes = std::int64_t{1} << 20;

// Where config.json does not say: as most of the model is stored.
std::string stored_dtype(const WeightSource& weights) {
  std::int64_t largest = -1;
  std::string stored;
  for (const SourceTensor& tensor : weights.tensors()) {
    if (tensor.shape.count() <= largest) continue;
    largest = tensor.shape.count();
    stored = tensor.stored;
  }
  return stored == "BF16" ? "bf16" : stored == "F16" ? "fp16" : "fp32";
}

void add_tokenizer(ForeignModel& model, const std::string& directory) {
  std::error_code ignored;
  const bool has_files = fs::exists(fs::path(directory) / "tokenizer.json", ignored) ||
                         fs::exists(fs::path(directory) / "meta.json", ignored);
  if (!has_files) return;
  try {
    model.tokenizer = open_tokenizer(directory);
  } catch (const UserError& error) {
    model.tokenizer_error = error.what();
    return;
  }
  if (model.tokenizer->vocab_size() > model.config.vocab) {
    fail(ExitCode::kData,
         "{}: the tokenizer has {} entries, config.json's vocab_size is only {}; the files do not "
         "belong together",
         directory, model.tokenizer->vocab_size(), model.config.vocab);
  }
}

GenerationConfig read_generation(const std::string& directory, const HfConfig& config) {
  const std::string path = (fs::path(directory) / "generation_config.json").string();
  std::error_code ignored;
  const std::string text =
      fs::exists(path, ignored)
          ? InputFile(path, "a model's generation_config.json").text(kMaxConfigBytes)
          : "";
  return parse_generation_config(text, path, config.model.vocab, config.bos_token_id,
                                 config.eos_token_ids);
}

}  // namespace

bool is_hugging_face(const std::string& path) {
  std::error_code ignored;
  return fs::is_regular_file(fs::path(path) / "config.json", ignored);
}

ForeignModel open_hugging_face(const std::string& directory) {
  const std::string path = (fs::path(directory) / "config.json").string();
  const HfConfig config =
      parse_hf_config(InputFile(path, "a model's config.json").text(kMaxConfigBytes), path);
  ForeignModel model;
  model.config = config.model;
  auto files = std::make_unique<SafetensorsReader>(directory);
  model.dtype = config.dtype.empty() ? stored_dtype(*files) : config.dtype;
  std::unique_ptr<WeightSource> weights;
  if (config.quantization.empty()) {
    weights = std::move(files);
  } else {
    weights = open_compressed_tensors(std::move(files), config.quantization, model.int8_activations,
                                      directory);
  }
  model.weights = under_our_names(std::move(weights), model.config, /*gguf=*/false, directory);
  model.generation = read_generation(directory, config);
  add_tokenizer(model, directory);
  return model;
}

}  // namespace lockstep
