// Reading config.json. A key that is absent means what transformers takes it to mean; a value that
// would change the arithmetic and that this program does not have is refused by its name.
#include "formats/hf_config.h"

#include "core/error.h"
#include "core/json_nesting.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <initializer_list>
#include <limits>
#include <optional>

namespace lockstep {
namespace {

using nlohmann::json;

// One object of the file; `prefix` is where it stands ("rope_scaling." or "").
class Keys {
 public:
  Keys(const json& object, std::string path, std::string prefix = "")
      : object_(object), path_(std::move(path)), prefix_(std::move(prefix)) {}

  // Null counts as absent, as in transformers.
  const json* find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  [[noreturn]] void refuse(const char* key, const std::string& why) const {
    std::string value = "is missing";
    if (const json* found = find(key)) {
      value = found->dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
      value = "= " + (value.size() > 60 ? value.substr(0, 60) + "..." : value);
    }
    fail(ExitCode::kData, "{}: key '{}{}' {}: {}", path_, prefix_, key, value, why);
  }

  std::int64_t integer(const char* key, std::int64_t most) const {
    const json* value = find(key);
    if (value == nullptr) refuse(key, "this model cannot be built without it");
    const bool small = value->is_number_integer() &&
                       !(value->is_number_unsigned() &&
                         value->get<std::uint64_t>() > static_cast<std::uint64_t>(most));
    if (!small || value->get<std::int64_t>() < 1 || value->get<std::int64_t>() > most) {
      refuse(key, fmt::format("must be an integer between 1 and {}", most));
    }
    return value->get<std::int64_t>();
  }

  std::int64_t integer_or(const char* key, std::int64_t most, std::int64_t fallback) const {
    return find(key) == nullptr ? fallback : integer(key, most);
  }

  // Above 0 and finite.
  double number_or(const char* key, std::optional<double> fallback) const {
    const json* value = find(key);
    if (value == nullptr && fallback) return *fallback;
    if (value == nullptr || !value->is_number()) refuse(key, "must be a number");
    const auto number = value->get<double>();
    if (!(number > 0.0 && number < 1e30)) refuse(key, "must be above 0 and finite");
    return number;
  }

  bool boolean_or(const char* key, bool fallback) const {
    const json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) refuse(key, "must be true or false");
    return value->get<bool>();
  }

  std::string text_or(const char* key, const std::string& fallback) const {
    const json* value = find(key);
    if (value == nullptr) return fallback;
    if (!value->is_string()) refuse(key, "must be a text");
    return value->get<std::string>();
  }

  const json* object_or_null(const char* key) const {
    const json* value = find(key);
    if (value != nullptr && !value->is_object()) refuse(key, "must be an object");
    return value;
  }

  // Everything but `wanted` changes the arithmetic into something that is not here.
  void require(const char* key, bool wanted, bool fallback) const {
    if (boolean_or(key, fallback) == wanted) return;
    refuse(key, fmt::format("is not supported, only {}", wanted));
  }
  void require_text(const char* key, std::initializer_list<const char*> supported,
                    const char* fallback) const {
    const std::string value = text_or(key, fallback);
    std::string names;
    for (const char* word : supported) {
      if (value == word) return;
      names += (names.empty() ? "" : ", ") + std::string(word);
    }
    refuse(key, "is not supported, only " + names);
  }

  const std::string& path() const { return path_; }

 private:
  const json& object_;
  std::string path_;
  std::string prefix_;
};

using Limits = ModelLimits;

void read_gpt2(ModelConfig& model, const Keys& keys) {
  model.layers = keys.integer("n_layer", Limits::kLayers);
  model.heads = keys.integer("n_head", Limits::kHeads);
  model.hidden = keys.integer("n_embd", Limits::kHidden);
  model.ffn = keys.integer_or("n_inner", Limits::kFfn, 4 * model.hidden);
  model.seq_len = keys.find("n_positions") == nullptr && keys.find("n_ctx") != nullptr
                      ? keys.integer("n_ctx", Limits::kSeqLen)
                      : keys.integer("n_positions", Limits::kSeqLen);
  model.norm_eps = keys.number_or("layer_norm_epsilon", 1e-5);
  keys.require_text("activation_function", {"gelu_new", "gelu_pytorch_tanh"}, "gelu_new");
  keys.require("scale_attn_weights", true, true);
  keys.require("scale_attn_by_inverse_layer_idx", false, false);
  keys.require("add_cross_attention", false, false);
}

// `keys` is what holds the type and its numbers: rope_scaling, or transformers 5's rope_parameters.
std::string read_rope_scaling(const Keys& keys) {
  const char* type = keys.find("rope_type") == nullptr ? "type" : "rope_type";
  keys.require_text(type, {"default", "linear", "llama3"}, "default");
  const std::string kind = keys.text_or(type, "default");
  if (kind == "default") return "";
  RopeScaling scaling;
  scaling.kind = kind == "linear" ? RopeScaling::Kind::kLinear : RopeScaling::Kind::kLlama3;
  scaling.factor = keys.number_or("factor", std::nullopt);
  if (scaling.factor < 1.0) keys.refuse("factor", "must be at least 1");
  if (kind == "llama3") {
    scaling.low_freq_factor = keys.number_or("low_freq_factor", std::nullopt);
    scaling.high_freq_factor = keys.number_or("high_freq_factor", std::nullopt);
    scaling.original_context =
        static_cast<double>(keys.integer("original_max_position_embeddings", Limits::kSeqLen));
    if (scaling.low_freq_factor >= scaling.high_freq_factor) {
      keys.refuse("low_freq_factor", "must be below high_freq_factor");
    }
  }
  return rope_scaling_text(scaling);
}

void read_rope(ModelConfig& model, const Keys& keys) {
  model.rope_theta = keys.number_or("rope_theta", 10000.0);
  if (keys.number_or("partial_rotary_factor", 1.0) != 1.0) {
    keys.refuse("partial_rotary_factor", "is not supported, only 1.0");
  }
  if (const json* scaling = keys.object_or_null("rope_scaling")) {
    model.rope_scaling = read_rope_scaling(Keys(*scaling, keys.path(), "rope_scaling."));
  }
  const json* object = keys.object_or_null("rope_parameters");
  if (object == nullptr) return;
  const Keys parameters(*object, keys.path(), "rope_parameters.");
  for (const auto& [key, value] : object->items()) {
    if (value.is_object()) parameters.refuse(key.c_str(), "layers of several kinds");
  }
  if (parameters.number_or("partial_rotary_factor", 1.0) != 1.0) {
    parameters.refuse("partial_rotary_factor", "is not supported, only 1.0");
  }
  const double theta = parameters.number_or("rope_theta", model.rope_theta);
  if (keys.find("rope_theta") != nullptr && theta != model.rope_theta) {
    parameters.refuse("rope_theta", fmt::format("contradicts rope_theta = {}", model.rope_theta));
  }
  const std::string scaling = read_rope_scaling(parameters);
  if (keys.find("rope_scaling") != nullptr && scaling != model.rope_scaling) {
    parameters.refuse("rope_type", "contradicts rope_scaling");
  }
  model.rope_theta = theta;
  model.rope_scaling = scaling;
}

// What Llama and Qwen2 have in common.
void read_llama(ModelConfig& model, const Keys& keys) {
  model.layers = keys.integer("num_hidden_layers", Limits::kLayers);
  model.heads = keys.integer("num_attention_heads", Limits::kHeads);
  model.hidden = keys.integer("hidden_size", Limits::kHidden);
  model.ffn = keys.integer("intermediate_size", Limits::kFfn);
  model.seq_len = keys.integer("max_position_embeddings", Limits::kSeqLen);
  // An absent number of key/value heads is 32 to a Qwen2, so a small one always states it.
  model.kv_heads = model.architecture == "qwen2"
                       ? keys.integer("num_key_value_heads", Limits::kHeads)
                       : keys.integer_or("num_key_value_heads", Limits::kHeads, model.heads);
  model.head_dim = keys.integer_or("head_dim", Limits::kHeadDim, /*fallback=*/0);
  model.norm_eps = keys.number_or("rms_norm_eps", 1e-6);
  keys.require_text("hidden_act", {"silu", "swish"}, "silu");
  read_rope(model, keys);
  if (model.architecture == "qwen2") {
    keys.require("use_sliding_window", false, false);
    model.attention_bias = "true";
    model.mlp_bias = "false";
    return;
  }
  model.attention_bias = keys.boolean_or("attention_bias", false) ? "true" : "false";
  model.mlp_bias = keys.boolean_or("mlp_bias", false) ? "true" : "false";
}

std::string read_dtype(const Keys& keys) {
  const char* key = keys.find("dtype") == nullptr ? "torch_dtype" : "dtype";
  std::string dtype = keys.text_or(key, "");
  if (dtype.starts_with("torch.")) dtype = dtype.substr(6);
  if (dtype.empty() || dtype == "auto") return "";
  if (dtype == "float32" || dtype == "float64" || dtype == "float") return "fp32";
  if (dtype == "bfloat16") return "bf16";
  if (dtype == "float16" || dtype == "half") return "fp16";
  keys.refuse(key, "is not supported, only float32, bfloat16 and float16");
}

// An id, or the first of several; one outside the vocabulary (a default that nobody changed) names
// no token.
std::int64_t read_token_id(const Keys& keys, const char* key, std::int64_t vocab) {
  const json* value = keys.find(key);
  if (value == nullptr) return -1;
  const json* first = value->is_array() && !value->empty() ? &(*value)[0] : value;
  if (value->is_array() && value->empty()) return -1;
  if (!first->is_number_integer() || first->get<double>() < -1.0 ||
      first->get<double>() > static_cast<double>(std::numeric_limits<std::int32_t>::max())) {
    keys.refuse(key, "must be a token id, or a list of them");
  }
  const auto id = first->get<std::int64_t>();
  return id < vocab ? id : -1;
}

void read_model(ModelConfig& model, const Keys& keys) {
  model.architecture = keys.text_or("model_type", "");
  if (model.architecture != "gpt2" && model.architecture != "llama" &&
      model.architecture != "qwen2") {
    keys.refuse("model_type", "is not supported, only gpt2, llama and qwen2");
  }
  model.vocab = keys.integer("vocab_size", Limits::kVocab);
  const bool gpt2 = model.architecture == "gpt2";
  if (gpt2) {
    read_gpt2(model, keys);
    model.attention_bias = model.mlp_bias = "true";
  } else {
    read_llama(model, keys);
  }
  model.tie_embeddings = keys.boolean_or("tie_word_embeddings", gpt2) ? "true" : "false";
  model.init_std = keys.number_or("initializer_range", 0.02);
  try {
    resolve(model, /*tokenizer_vocab=*/0);
  } catch (const UserError& error) {
    fail(ExitCode::kData, "{}: {}", keys.path(), error.what());
  }
}

}  // namespace

HfConfig parse_hf_config(const std::string& text, const std::string& path) {
  check_json_nesting(text, path);
  const json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) {
    fail(ExitCode::kData, "{}: not a JSON object; copy the model's config.json again", path);
  }
  const Keys keys(root, path);
  HfConfig config;
  read_model(config.model, keys);
  config.dtype = read_dtype(keys);
  config.bos_token_id = read_token_id(keys, "bos_token_id", config.model.vocab);
  config.eos_token_id = read_token_id(keys, "eos_token_id", config.model.vocab);
  if (const json* quantization = keys.object_or_null("quantization_config")) {
    config.quantization = quantization->dump(-1, ' ', true, json::error_handler_t::replace);
  }
  return config;
}

}  // namespace lockstep
