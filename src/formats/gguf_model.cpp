// A GGUF file as a model: metadata says the shape, tensors say which biases there are and whether
// the output is tied. What changes the arithmetic and is not supported is refused by its key.
#include "core/error.h"
#include "formats/foreign_model.h"
#include "formats/gguf.h"
#include "formats/gguf_layout.h"
#include "formats/gguf_vocabulary.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>

namespace lockstep {
namespace {

// Keys below the architecture that may only have this value, or be absent.
struct OnlyValue {
  const char* key;
  double value;
};
constexpr std::array<OnlyValue, 11> kOnlyValues = {{{"expert_count", 0.0},
                                                    {"expert_used_count", 0.0},
                                                    {"attention.sliding_window", 0.0},
                                                    {"attention.scale", 0.0},
                                                    {"attention.clamp_kqv", 0.0},
                                                    {"attention.max_alibi_bias", 0.0},
                                                    {"attention.causal", 1.0},
                                                    {"logit_scale", 1.0},
                                                    {"embedding_scale", 1.0},
                                                    {"residual_scale", 1.0},
                                                    {"rope.scaling.attn_factor", 1.0}}};

// The typed view of a file's metadata; every failure names file and key.
class Metadata {
 public:
  Metadata(const std::map<std::string, GgufValue>& values, const std::string& path)
      : values_(values), path_(path) {}

  std::optional<std::string> text(const std::string& key) const {
    const auto at = values_.find(key);
    if (at == values_.end()) return std::nullopt;
    if (const auto* value = std::get_if<std::string>(&at->second)) return *value;
    fail(ExitCode::kData, "{}: key {} is no string", path_, key);
  }

  std::optional<double> number(const std::string& key) const {
    const auto at = values_.find(key);
    if (at == values_.end()) return std::nullopt;
    const std::optional<double> value =
        std::visit([](const auto& v) { return as_number(v); }, at->second);
    if (!value || !std::isfinite(*value)) {
      fail(ExitCode::kData, "{}: key {} is no number (one value for all layers is supported)",
           path_, key);
    }
    return value;
  }

  std::optional<std::int64_t> size(const std::string& key) const {
    const std::optional<double> value = number(key);
    if (!value) return std::nullopt;
    if (*value < 1.0 || *value > 0x1p31 || *value != std::floor(*value)) {
      fail(ExitCode::kData, "{}: key {} = {} is no size", path_, key, *value);
    }
    return static_cast<std::int64_t>(*value);
  }

  template <typename T>
  T required(const std::optional<T>& value, const std::string& key) const {
    if (!value) fail(ExitCode::kData, "{}: key {} is missing; it is no model file", path_, key);
    return *value;
  }

 private:
  template <typename T>
  static std::optional<double> as_number(const T& value) {
    if constexpr (std::is_same_v<T, float>) {
      // As it was written: 1e-05, not the double nearest to fp32's 1e-05.
      const std::string text = fmt::format("{}", value);
      double number = std::nan("");
      std::from_chars(text.data(), text.data() + text.size(), number);
      return number;
    } else if constexpr (std::is_arithmetic_v<T>) {
      return static_cast<double>(value);
    } else {
      return std::nullopt;
    }
  }

  const std::map<std::string, GgufValue>& values_;
  const std::string& path_;
};

const char* yes_or_no(bool value) { return value ? "true" : "false"; }

class GgufModel {
 public:
  explicit GgufModel(const std::string& path)
      : path_(path),
        file_(std::make_unique<GgufReader>(path)),
        metadata_(file_->metadata(), path_) {}

  ForeignModel open() {
    ForeignModel model;
    read_config();
    model.config = config_;
    model.dtype = dtype();
    model.tokenizer = read_vocabulary(model.tokenizer_error, file_->metadata(), path_);
    model.weights = under_our_names(std::move(file_), config_, /*gguf=*/true, path_);
    return model;
  }

 private:
  std::string key(const std::string& suffix) const { return config_.architecture + "." + suffix; }
  std::int64_t size(const std::string& suffix) const {
    return metadata_.required(metadata_.size(key(suffix)), key(suffix));
  }
  bool has(const std::string& tensor) const { return file_->find(tensor) != nullptr; }

  void read_config() {
    const std::string name = "general.architecture";
    config_.architecture = metadata_.required(metadata_.text(name), name);
    const std::string& arch = config_.architecture;
    if (arch != "gpt2" && arch != "llama" && arch != "qwen2") {
      fail(ExitCode::kData, "{}: key {} = '{}' is not supported; gpt2, llama and qwen2 are", path_,
           name, arch);
    }
    check_only_values();
    read_sizes();
    read_tensors();
    if (!config_.learned_positions()) read_rotary();
    try {
      resolve(config_, /*tokenizer_vocab=*/0);
    } catch (const UserError& error) {
      fail(ExitCode::kData, "{}: {}", path_, error.what());
    }
  }

  void check_only_values() const {
    for (const OnlyValue& only : kOnlyValues) {
      const std::optional<double> value = metadata_.number(key(only.key));
      if (!value || *value == only.value) continue;
      fail(ExitCode::kData, "{}: key {} = {} is not supported (only {} is)", path_, key(only.key),
           *value, only.value);
    }
  }

  void read_sizes() {
    config_.seq_len = size("context_length");
    config_.hidden = size("embedding_length");
    config_.layers = size("block_count");
    config_.ffn = size("feed_forward_length");
    config_.heads = size("attention.head_count");
    config_.kv_heads = metadata_.size(key("attention.head_count_kv")).value_or(config_.heads);
    config_.head_dim =
        metadata_.size(key("attention.key_length")).value_or(config_.hidden / config_.heads);
    const auto value_length = metadata_.size(key("attention.value_length"));
    if (value_length.value_or(config_.head_dim) != config_.head_dim) {
      fail(ExitCode::kData, "{}: key {} = {} is not supported: it must be {}, as keys are", path_,
           key("attention.value_length"), *value_length, config_.head_dim);
    }
    const std::string eps =
        key(config_.norm() == NormKind::kLayerNorm ? "attention.layer_norm_epsilon"
                                                   : "attention.layer_norm_rms_epsilon");
    config_.norm_eps = metadata_.required(metadata_.number(eps), eps);
  }

  void read_tensors() {
    const SourceTensor* embedding = file_->find("token_embd.weight");
    if (embedding == nullptr || embedding->shape.rank() != 2) {
      fail(ExitCode::kData, "{}: tensor token_embd.weight is missing or no matrix", path_);
    }
    config_.vocab = embedding->shape[0];
    const auto tokens = file_->metadata().find("tokenizer.ggml.tokens");
    if (tokens != file_->metadata().end()) check_token_count(tokens->second);
    config_.tie_embeddings = yes_or_no(!has("output.weight"));
    config_.attention_bias =
        yes_or_no(has(config_.learned_positions() ? "blk.0.attn_qkv.bias" : "blk.0.attn_q.bias"));
    config_.mlp_bias = yes_or_no(has("blk.0.ffn_up.bias"));
  }

  void check_token_count(const GgufValue& tokens) const {
    const auto* texts = std::get_if<std::vector<std::string>>(&tokens);
    if (texts == nullptr || static_cast<std::int64_t>(texts->size()) <= config_.vocab) return;
    fail(ExitCode::kData,
         "{}: tokenizer.ggml.tokens has {} items, tensor token_embd.weight {} rows", path_,
         texts->size(), config_.vocab);
  }

  void read_rotary() {
    config_.rope_theta = metadata_.number(key("rope.freq_base")).value_or(10000.0);
    const auto rotated = metadata_.size(key("rope.dimension_count"));
    if (rotated.value_or(config_.head_dim) != config_.head_dim) {
      fail(ExitCode::kData, "{}: key {} = {} is not supported: whole heads of {} must be rotated",
           path_, key("rope.dimension_count"), *rotated, config_.head_dim);
    }
    const std::string type = metadata_.text(key("rope.scaling.type")).value_or("none");
    if (type != "none" && type != "linear") {
      fail(ExitCode::kData, "{}: key {} = '{}' is not supported (only none and linear are)", path_,
           key("rope.scaling.type"), type);
    }
    const double factor = metadata_.number(key("rope.scaling.factor")).value_or(1.0);
    if (type == "linear" && factor != 1.0 && factor != 0.0) {
      config_.rope_scaling = fmt::format("linear:{}", factor);
    }
    if (has(kRopeFactorsName)) read_rope_factors();
  }

  // The factors alone do not say where they come from: ours carry a key, others are compared with
  // the scalings in use (Llama 3.1 and 3.2).
  void read_rope_factors() {
    const SourceTensor& tensor = *file_->find(kRopeFactorsName);
    if (tensor.shape != Shape{config_.head_dim / 2}) {
      fail(ExitCode::kData, "{}: tensor {} has shape {} instead of [{}]", path_, kRopeFactorsName,
           tensor.shape.str(), config_.head_dim / 2);
    }
    std::vector<float> stored(static_cast<std::size_t>(tensor.shape.count()));
    file_->read(kRopeFactorsName, 0, stored);
    if (std::all_of(stored.begin(), stored.end(), [](float f) { return f == 1.0f; })) return;
    const std::string own = metadata_.text(kRopeScalingKey).value_or("");
    for (const std::string& scaling :
         {own, std::string("llama3:8,1,4,8192"), std::string("llama3:32,1,4,8192")}) {
      if (!explains(scaling, stored)) continue;
      config_.rope_scaling = scaling;
      return;
    }
    fail(ExitCode::kData,
         "{}: tensor {} holds a rotary scaling that is not known (llama3 with factor 8 or 32 is)",
         path_, kRopeFactorsName);
  }

  bool explains(const std::string& scaling, const std::vector<float>& stored) const {
    ModelConfig scaled = config_;
    scaled.rope_scaling = scaling;
    std::vector<float> factors;
    try {
      factors = rope_factors(scaled);
    } catch (const UserError& error) {
      fail(ExitCode::kData, "{}: key {}: {}", path_, kRopeScalingKey, error.what());
    }
    return std::equal(factors.begin(), factors.end(), stored.begin(), stored.end(),
                      [](float a, float b) { return std::fabs(a - b) <= 1e-4f * std::fabs(a); });
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
  Metadata metadata_;
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
