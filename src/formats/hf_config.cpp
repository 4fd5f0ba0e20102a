// Reading config.json. A key that is absent means what transformers takes it to mean; a value that
// would change the arithmetic and that this program does not have is refused by its name.
#include "formats/hf_config.h"

#include "core/error.h"
#include "formats/foreign_family.h"

namespace lockstep {
namespace {

std::string read_dtype(const JsonKeys& keys) {
  const char* key = keys.has("dtype") ? "dtype" : "torch_dtype";
  std::string dtype = keys.text_or(key, "");
  if (dtype.starts_with("torch.")) dtype = dtype.substr(6);
  if (dtype.empty() || dtype == "auto") return "";
  if (dtype == "float32" || dtype == "float64" || dtype == "float") return "fp32";
  if (dtype == "bfloat16") return "bf16";
  if (dtype == "float16" || dtype == "half") return "fp16";
  keys.refuse(key, "is not supported, only float32, bfloat16 and float16");
}

// Ids outside the vocabulary (defaults that nobody changed) name no token.
std::vector<std::int32_t> read_token_ids(const JsonKeys& keys, const char* key,
                                         std::int64_t vocab) {
  std::vector<std::int32_t> ids;
  for (const std::int64_t id : keys.token_ids(key)) {
    if (id >= 0 && id < vocab) ids.push_back(static_cast<std::int32_t>(id));
  }
  return ids;
}

void read_model(ModelConfig& model, const JsonKeys& keys) {
  model.architecture = keys.text_or("model_type", "");
  const ForeignFamily* family = find_foreign_family(model.architecture);
  if (family == nullptr) {
    keys.refuse("model_type", "is not supported, only " + foreign_family_names());
  }
  model.vocab = keys.integer("vocab_size", ModelLimits::kVocab);
  family->read_config(model, keys);
  model.init_std = keys.number_or("initializer_range", 0.02);
  try {
    resolve(model, /*tokenizer_vocab=*/0);
  } catch (const UserError& error) {
    fail(ExitCode::kData, "{}: {}", keys.path(), error.what());
  }
}

}  // namespace

HfConfig parse_hf_config(const std::string& text, const std::string& path) {
  const JsonKeys keys = JsonKeys::parse(text, path);
  HfConfig config;
  read_model(config.model, keys);
  config.dtype = read_dtype(keys);
  const auto begins = read_token_ids(keys, "bos_token_id", config.model.vocab);
  if (!begins.empty()) config.bos_token_id = begins.front();
  config.eos_token_ids = read_token_ids(keys, "eos_token_id", config.model.vocab);
  if (const auto quantization = keys.object("quantization_config")) {
    config.quantization = quantization->dump();
  }
  return config;
}

}  // namespace lockstep
