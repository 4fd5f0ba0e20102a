// Only what can be told without understanding the model: every key may be missing or odd.
#include "formats/foreign_summary.h"

#include "core/error.h"
#include "core/json_nesting.h"
#include "files/input_file.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <map>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::int64_t kMaxConfigBytes = std::int64_t{1} << 20;
constexpr const char* kAdapterConfig = "adapter_config.json";
constexpr const char* kAdapterWeights = "adapter_model.safetensors";

void add_tensors(ForeignSummary& summary, const WeightSource& weights) {
  summary.tensors = stored_types(weights);
  for (const SourceTensor& tensor : weights.tensors()) summary.parameters += tensor.shape.count();
}

json read_object(const fs::path& path) {
  const std::string text = InputFile(path.string(), "a model's JSON").text(kMaxConfigBytes);
  check_json_nesting(text, path.string());
  json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  return root.is_object() ? root : json::object();
}

std::string text_of(const json& root, const char* key) {
  const auto found = root.find(key);
  return found != root.end() && found->is_string() ? found->get<std::string>() : "";
}

// The first of these keys that holds a whole number.
std::int64_t size_of(const json& root, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    const auto found = root.find(key);
    if (found != root.end() && found->is_number_integer()) return found->get<std::int64_t>();
  }
  return 0;
}

std::string text_of(const GgufReader& file, const std::string& key) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) return "";
  const auto* text = std::get_if<std::string>(&found->second);
  return text == nullptr ? "" : *text;
}

std::int64_t size_of(const GgufReader& file, const std::string& key) {
  const auto found = file.metadata().find(key);
  if (found == file.metadata().end()) return 0;
  if (const auto* size = std::get_if<std::uint32_t>(&found->second)) return *size;
  const auto* size = std::get_if<std::uint64_t>(&found->second);
  return size == nullptr ? 0 : static_cast<std::int64_t>(*size);
}

}  // namespace

std::string stored_types(const WeightSource& weights) {
  std::map<std::string, int> counts;
  for (const SourceTensor& tensor : weights.tensors()) ++counts[tensor.stored];
  std::string text;
  for (const auto& [type, count] : counts) {
    text += fmt::format("{}{} x {}", text.empty() ? "" : ", ", count, type);
  }
  return text;
}

ForeignSummary summarize_gguf(const std::string& path) {
  const GgufReader file(path, GgufReader::Types::kAny);
  ForeignSummary summary;
  summary.architecture = text_of(file, "general.architecture");
  add_tensors(summary, file);
  const std::string prefix = summary.architecture + ".";
  summary.layers = size_of(file, prefix + "block_count");
  summary.hidden = size_of(file, prefix + "embedding_length");
  summary.seq_len = size_of(file, prefix + "context_length");
  const SourceTensor* embedding = file.find("token_embd.weight");
  if (embedding != nullptr) summary.vocab = embedding->shape[0];
  const std::string model = text_of(file, "tokenizer.ggml.model");
  const std::string pre = text_of(file, "tokenizer.ggml.pre");
  summary.tokenizer = pre.empty() ? model : fmt::format("{} ({})", model, pre);
  return summary;
}

ForeignSummary summarize_hugging_face(const std::string& directory) {
  const json config = read_object(fs::path(directory) / "config.json");
  ForeignSummary summary;
  summary.architecture = text_of(config, "model_type");
  add_tensors(summary, SafetensorsReader(directory));
  summary.layers = size_of(config, {"num_hidden_layers", "n_layer"});
  summary.hidden = size_of(config, {"hidden_size", "n_embd"});
  summary.vocab = size_of(config, {"vocab_size"});
  summary.seq_len = size_of(config, {"max_position_embeddings", "n_positions"});
  return summary;
}

bool is_adapter(const std::string& directory) {
  std::error_code ignored;
  return fs::is_regular_file(fs::path(directory) / kAdapterConfig, ignored) &&
         !fs::exists(fs::path(directory) / "config.json", ignored);
}

ForeignSummary summarize_adapter(const std::string& directory) {
  const json config = read_object(fs::path(directory) / kAdapterConfig);
  ForeignSummary summary;
  summary.architecture = text_of(config, "peft_type");
  summary.base_model = text_of(config, "base_model_name_or_path");
  const std::string weights = (fs::path(directory) / kAdapterWeights).string();
  std::error_code ignored;
  if (fs::exists(weights, ignored)) add_tensors(summary, SafetensorsReader(weights));
  return summary;
}

void refuse_adapter(const std::string& directory, const std::string& what) {
  const std::string base = summarize_adapter(directory).base_model;
  fail(
      ExitCode::kData,
      "{}{}: holds an adapter only (adapter_config.json), no model; merge it into its base model{} "
      "(peft's merge_and_unload) and give the merged directory",
      what, directory, base.empty() ? "" : " " + base);
}

}  // namespace lockstep
