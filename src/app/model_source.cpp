// Finding the checkpoint behind a path, and its weights.
#include "app/model_source.h"

#include "app/config.h"
#include "trainer/snapshot.h"

#include <filesystem>
#include <vector>

namespace lockstep {
namespace {

std::string find_checkpoint(const std::string& path, World& world, Log& log) {
  if (is_checkpoint(path)) return path;
  const std::string newest = newest_valid_checkpoint(path + "/checkpoints", world, log);
  if (newest.empty()) {
    fail_together(ExitCode::kData,
                  "{}: neither a checkpoint (it has no manifest.json) nor a run that has saved one",
                  path);
  }
  return newest;
}

template <typename T>
void round_into(const std::vector<float>& values, std::vector<std::byte>& bytes) {
  bytes.resize(values.size() * sizeof(T));
  auto* out = reinterpret_cast<T*>(bytes.data());
  for (std::size_t i = 0; i < values.size(); ++i) out[i] = from_float<T>(values[i]);
}

}  // namespace

ModelSource open_model_source(const std::string& path, World& world, Log& log) {
  ModelSource source;
  std::string checkpoint;
  agree(world, [&] {
    if (!std::filesystem::exists(path)) {
      fail(ExitCode::kData, "{}: no such run or checkpoint", path);
    }
  });
  checkpoint = find_checkpoint(path, world, log);
  agree(world, [&] {
    source.reader = std::make_unique<CheckpointReader>(checkpoint);
    source.reader->verify_files();
    ConfigRegistry registry(source.options);
    registry.load_text(source.reader->meta().config, checkpoint + "/manifest.json (config)");
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
