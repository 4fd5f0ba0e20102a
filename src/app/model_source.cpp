// Telling the kinds of MODEL apart, and a checkpoint's weights as a WeightSource.
#include "app/model_source.h"

#include "app/any_tokenizer.h"
#include "app/config.h"
#include "data/vocabulary_match.h"
#include "files/file_system.h"
#include "formats/foreign_model.h"
#include "formats/foreign_summary.h"
#include "trainer/verified_checkpoint.h"

#include <algorithm>
#include <filesystem>

namespace lockstep {
namespace {

constexpr std::string_view kModelPrefix = "model/";

class CheckpointWeights final : public WeightSource {
 public:
  // Tensors whose names begin with `prefix`, under the rest of their names.
  CheckpointWeights(CheckpointReader& reader, std::string_view prefix)
      : reader_(reader), prefix_(prefix) {
    for (const StateTensor& tensor : reader.tensors()) {
      if (!tensor.name.starts_with(prefix_)) continue;
      CHECK(tensor.dtype == DType::kF32, "{} is {}", tensor.name, name_of(tensor.dtype));
      tensors_.push_back({tensor.name.substr(prefix_.size()), tensor.shape, "F32"});
    }
  }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  void read(const std::string& name, std::int64_t row_begin, std::span<float> out) override {
    reader_.read(prefix_ + name, row_begin, std::as_writable_bytes(out));
  }

 private:
  CheckpointReader& reader_;
  std::string prefix_;
  std::vector<SourceTensor> tensors_;
};

void use_foreign(ModelSource& source, ForeignModel model, const std::string& path) {
  source.options.model = model.config;
  source.options.precision.dtype = dtype_named(model.dtype).value();
  source.weights = std::move(model.weights);
  source.tokenizer = std::move(model.tokenizer);
  source.tokenizer_error = std::move(model.tokenizer_error);
  source.generation = std::move(model.generation);
  source.int8_activations = model.int8_activations;
  source.description = path;
}

// What the first model's files said, else those that lay beside the tokenizer. Training ended
// documents with the tokenizer's own token, whatever that model used.
void read_generation(ModelSource& source) {
  std::string text = source.reader->meta().generation_config;
  if (text.empty() && source.tokenizer != nullptr) text = source.tokenizer->generation_config();
  if (text.empty()) return;
  source.generation = parse_generation_config(text, source.reader->path() + " (generation_config)",
                                              source.options.model.vocab);
  if (source.tokenizer == nullptr) return;
  source.generation = with_end_token(source.generation, source.tokenizer->end_of_text());
}

void use_checkpoint(ModelSource& source, const std::string& path) {
  ConfigRegistry registry(source.options);
  registry.load_text(source.reader->meta().config,
                     source.reader->path() + "/manifest.json (config)");
  resolve(source.options.model, /*tokenizer_vocab=*/0);
  source.weights = std::make_unique<CheckpointWeights>(*source.reader, kModelPrefix);
  const std::string tokenizer = source.reader->tokenizer_directory();
  try {
    if (!tokenizer.empty()) source.tokenizer = open_tokenizer(tokenizer);
  } catch (const UserError& error) {
    source.tokenizer_error = error.what();
  }
  read_generation(source);
  source.description = fmt::format("{} step {}", path, source.reader->meta().step);
}

}  // namespace

std::int64_t ModelSource::judged_seq_len() const {
  constexpr std::int64_t kForeignSeqLen = 1024;
  const std::int64_t context = options.model.seq_len;
  return foreign() ? std::min(context, kForeignSeqLen) : context;
}

std::unique_ptr<CheckpointReader> open_checkpoint(const std::string& path, const std::string& what,
                                                  World& world, Log& log) {
  agree(world, [&] {
    if (!std::filesystem::is_directory(path)) {
      fail(ExitCode::kData, "{}{}: no such run or checkpoint", what, path);
    }
  });
  if (world.all_agree(is_checkpoint(path))) {
    VerifiedCheckpoint opened = open_verified(behind_link(path), world);
    if (opened.reader == nullptr) fail_together(opened.code, "{}", opened.cause);
    return std::move(opened.reader);
  }
  auto reader = newest_valid_checkpoint(path + "/checkpoints", world, log);
  if (reader == nullptr) {
    fail_together(
        ExitCode::kData,
        "{}{}: neither a checkpoint (it has no manifest.json) nor a run that has saved one", what,
        path);
  }
  return reader;
}

ModelSource open_model_source(const std::string& path, const std::string& what, World& world,
                              Log& log) {
  ModelSource source;
  agree(world, [&] {
    if (is_gguf(path)) {
      use_foreign(source, open_gguf(path), path);
    } else if (is_hugging_face(path) && !is_checkpoint(path)) {
      use_foreign(source, open_hugging_face(path), path);
    } else if (is_adapter(path)) {
      refuse_adapter(path, what);
    } else if (std::filesystem::is_regular_file(path)) {
      fail(ExitCode::kData,
           "{}{}: not a GGUF file; give a run, a checkpoint, a Hugging Face directory or a GGUF "
           "file",
           what, path);
    }
  });
  if (source.weights != nullptr) return source;
  source.reader = open_checkpoint(path, what, world, log);
  agree(world, [&] { use_checkpoint(source, path); });
  return source;
}

std::unique_ptr<WeightSource> checkpoint_state(CheckpointReader& reader) {
  return std::make_unique<CheckpointWeights>(reader, /*prefix=*/"");
}

std::unique_ptr<Tokenizer> tokenizer_of(ModelSource& source, const std::string& spec,
                                        bool allow_other) {
  std::unique_ptr<Tokenizer> tokenizer =
      spec.empty() ? std::move(source.tokenizer) : open_any_tokenizer(spec);
  if (tokenizer == nullptr && !source.tokenizer_error.empty()) {
    fail(ExitCode::kData, "{}; give another with --tokenizer", source.tokenizer_error);
  }
  if (tokenizer == nullptr) {
    fail(ExitCode::kUsage, "--tokenizer: {} carries no tokenizer; give one", source.description);
  }
  if (tokenizer->vocab_size() > source.options.model.vocab) {
    fail(ExitCode::kUsage, "--tokenizer: it has {} entries, the model only {}",
         tokenizer->vocab_size(), source.options.model.vocab);
  }
  if (!spec.empty() && source.tokenizer != nullptr && !allow_other) {
    require_same_vocabulary(
        {*tokenizer, spec + " of --tokenizer"}, {*source.tokenizer, "of " + source.description},
        {ExitCode::kUsage, "leave --tokenizer out, or give --allow-other-tokenizer too"});
  }
  return tokenizer;
}

void require_tokenizer_of_data(const Tokenizer* tokenizer, const std::string& description,
                               const std::vector<std::string>& shards) {
  if (tokenizer == nullptr) return;
  require_vocabulary_of_shards(
      {*tokenizer, "of " + description}, shards, "the data",
      {ExitCode::kData, "give data of the model's own tokenizer, or --allow-other-tokenizer"});
}

}  // namespace lockstep
