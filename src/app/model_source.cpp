// Finding the checkpoint behind a path, and its weights.
#include "app/model_source.h"

#include "app/config.h"
#include "trainer/snapshot.h"

#include <filesystem>
#include <vector>

namespace lockstep {
namespace {

template <typename T>
void round_into(const std::vector<float>& values, std::vector<std::byte>& bytes) {
  bytes.resize(values.size() * sizeof(T));
  auto* out = reinterpret_cast<T*>(bytes.data());
  for (std::size_t i = 0; i < values.size(); ++i) out[i] = from_float<T>(values[i]);
}

}  // namespace

std::unique_ptr<CheckpointReader> open_checkpoint(const std::string& path, const std::string& what,
                                                  World& world, Log& log) {
  std::unique_ptr<CheckpointReader> reader;
  agree(world, [&] {
    if (!std::filesystem::exists(path)) {
      fail(ExitCode::kData, "{}{}: no such run or checkpoint", what, path);
    }
    if (!is_checkpoint(path)) return;
    reader = std::make_unique<CheckpointReader>(path);
    reader->verify_files();
  });
  if (reader == nullptr) reader = newest_valid_checkpoint(path + "/checkpoints", world, log);
  if (reader == nullptr) {
    fail_together(
        ExitCode::kData,
        "{}{}: neither a checkpoint (it has no manifest.json) nor a run that has saved one", what,
        path);
  }
  return reader;
}

ModelSource open_model_source(const std::string& path, World& world, Log& log) {
  ModelSource source;
  source.reader = open_checkpoint(path, /*what=*/"", world, log);
  agree(world, [&] {
    ConfigRegistry registry(source.options);
    registry.load_text(source.reader->meta().config,
                       source.reader->path() + "/manifest.json (config)");
    resolve(source.options.model, /*tokenizer_vocab=*/0);
  });
  source.tokenizer = source.reader->tokenizer_directory();
  source.description = fmt::format("{} step {}", path, source.reader->meta().step);
  return source;
}

void load_weights(CheckpointReader& reader, ParameterSet& parameters, Stream& stream) {
  const Tensor& weights = parameters.weights();
  std::vector<float> values;
  std::vector<std::byte> rounded;
  for (const Parameter& parameter : parameters.all()) {
    values.resize(static_cast<std::size_t>(parameter.count()));
    reader.read("model/" + parameter.name, /*row_begin=*/0,
                std::as_writable_bytes(std::span(values)));
    switch (weights.dtype) {
      case DType::kBF16: round_into<bf16>(values, rounded); break;
      case DType::kF16: round_into<f16>(values, rounded); break;
      default: round_into<float>(values, rounded); break;
    }
    const auto offset = static_cast<std::size_t>(parameter.offset) * size_of(weights.dtype);
    stream.copy(static_cast<std::byte*>(weights.data) + offset, rounded.data(), rounded.size());
    stream.synchronize();
  }
}

}  // namespace lockstep
