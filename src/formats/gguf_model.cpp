// A GGUF file as a model: its family reads the shape; what changes the arithmetic and is not
// supported is refused by its key.
#include "core/error.h"
#include "formats/foreign_family.h"
#include "formats/foreign_model.h"
#include "formats/gguf.h"
#include "formats/gguf_vocabulary.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

namespace lockstep {
namespace {

class GgufModel {
 public:
  explicit GgufModel(const std::string& path)
      : path_(path), file_(std::make_unique<GgufReader>(path)), keys_(*file_, path_) {}

  ForeignModel open() {
    ForeignModel model;
    read_config();
    model.config = config_;
    model.dtype = dtype();
    model.generation = read_generation(file_->metadata(), path_, config_.vocab);
    model.tokenizer = read_vocabulary(model.tokenizer_error, file_->metadata(), path_);
    model.weights = under_our_names(std::move(file_), config_, /*gguf=*/true, path_);
    return model;
  }

 private:
  void read_config() {
    const std::string name = "general.architecture";
    config_.architecture = keys_.required(keys_.text(name), name);
    const ForeignFamily* family = find_foreign_family(config_.architecture);
    if (family == nullptr) {
      fail(ExitCode::kData, "{}: key {} = '{}' is not supported; {} are", path_, name,
           config_.architecture, foreign_family_names());
    }
    read_vocabulary_size();
    family->read_gguf(config_, keys_);
    try {
      resolve(config_, /*tokenizer_vocab=*/0);
    } catch (const UserError& error) {
      fail(ExitCode::kData, "{}: {}", path_, error.what());
    }
  }

  // The embedding has a row per entry; the tokenizer may have fewer.
  void read_vocabulary_size() {
    const SourceTensor* embedding = file_->find("token_embd.weight");
    if (embedding == nullptr || embedding->shape.rank() != 2) {
      fail(ExitCode::kData, "{}: tensor token_embd.weight is missing or no matrix", path_);
    }
    config_.vocab = embedding->shape[0];
    const auto tokens = file_->metadata().find("tokenizer.ggml.tokens");
    if (tokens != file_->metadata().end()) check_token_count(tokens->second);
  }

  void check_token_count(const GgufValue& tokens) const {
    const auto* texts = std::get_if<std::vector<std::string>>(&tokens);
    if (texts == nullptr || static_cast<std::int64_t>(texts->size()) <= config_.vocab) return;
    fail(ExitCode::kData,
         "{}: tokenizer.ggml.tokens has {} items, tensor token_embd.weight {} rows", path_,
         texts->size(), config_.vocab);
  }

  // What most of the model is stored as; blocks are decoded to fp32.
  std::string dtype() const {
    const auto largest = std::max_element(file_->tensors().begin(), file_->tensors().end(),
                                          [](const SourceTensor& a, const SourceTensor& b) {
                                            return a.shape.count() < b.shape.count();
                                          });
    if (largest->stored == "BF16") return "bf16";
    return largest->stored == "F16" ? "fp16" : "fp32";
  }

  std::string path_;
  std::unique_ptr<GgufReader> file_;
  GgufKeys keys_;
  ModelConfig config_;
};

}  // namespace

bool is_gguf(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return false;
  std::ifstream file(path, std::ios::binary);
  std::array<char, 4> magic{};
  file.read(magic.data(), magic.size());
  return file && std::string_view(magic.data(), magic.size()) == "GGUF";
}

ForeignModel open_gguf(const std::string& file) { return GgufModel(file).open(); }

}  // namespace lockstep
