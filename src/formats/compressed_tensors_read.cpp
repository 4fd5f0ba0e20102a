// Reading: which scheme config.json describes, then each quantized weight as a row-wise product.
#include "core/error.h"
#include "formats/compressed_tensors.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

namespace lockstep {
namespace {

using nlohmann::json;

constexpr std::int64_t kPerWord = 4;
constexpr std::size_t kPieceBytes = std::size_t{1} << 20;  // read at once to be converted
constexpr std::string_view kWeight = ".weight";
constexpr std::array<std::string_view, 7> kLinear = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                                     "gate_proj", "up_proj", "down_proj"};

// Refuses a configuration that says something else than what is implemented, key by key.
class SchemeCheck {
 public:
  explicit SchemeCheck(std::string origin) : origin_(std::move(origin)) {}

  // The member, or null where it is missing.
  static json member(const json& object, const char* key) {
    const auto found = object.find(key);
    return found == object.end() ? json() : *found;
  }

  void require(const json& object, const std::string& path, const char* key,
               const json& wanted) const {
    const json value = member(object, key);
    if (value != wanted) refuse(path + key, value, wanted.dump());
  }

  void require_or_absent(const json& object, const std::string& path, const char* key,
                         const json& wanted) const {
    const json value = member(object, key);
    if (!value.is_null() && value != wanted) refuse(path + key, value, wanted.dump());
  }

  // Null, or nothing in it.
  void require_none(const json& object, const std::string& path, const char* key) const {
    const json value = member(object, key);
    if (!value.is_null() && !(value.is_object() && value.empty())) {
      refuse(path + key, value, "null");
    }
  }

  [[noreturn]] void refuse(const std::string& key, const json& value,
                           const std::string& wanted) const {
    std::string text = value.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
    if (text.size() > 60) text = text.substr(0, 60) + "...";
    fail(ExitCode::kData,
         "{}: config.json: quantization_config.{} is {}, only {} is read; take the model's "
         "unquantized weights",
         origin_, key, text, wanted);
  }

 private:
  std::string origin_;
};

void check_arguments(const SchemeCheck& check, const json& arguments, const std::string& path,
                     const char* strategy, bool dynamic) {
  check.require(arguments, path, "num_bits", 8);
  check.require_or_absent(arguments, path, "type", "int");
  check.require_or_absent(arguments, path, "symmetric", true);
  check.require(arguments, path, "strategy", strategy);
  if (dynamic) {
    check.require(arguments, path, "dynamic", true);
  } else {
    check.require_or_absent(arguments, path, "dynamic", false);
  }
  check.require_or_absent(arguments, path, "group_size", -1);
  for (const char* key : {"actorder", "block_structure"}) check.require_none(arguments, path, key);
}

struct Scheme {
  bool packed = false;
  bool int8_activations = false;
};

Scheme parse_scheme(const std::string& text, const std::string& origin) {
  const SchemeCheck check(origin);
  const json config = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object()) check.refuse("*", json(text), "an object");
  check.require(config, "", "quant_method", "compressed-tensors");
  const json format = SchemeCheck::member(config, "format");
  Scheme scheme;
  scheme.packed = format == "pack-quantized";
  if (!scheme.packed && format != "int-quantized" && format != "naive-quantized") {
    check.refuse("format", format, "\"pack-quantized\" or \"int-quantized\"");
  }
  check.require_none(config, "", "kv_cache_scheme");
  check.require_none(config, "", "sparsity_config");
  const json groups = SchemeCheck::member(config, "config_groups");
  if (!groups.is_object() || groups.size() != 1 || !groups.begin()->is_object()) {
    check.refuse("config_groups", groups, "one group");
  }
  const std::string path = "config_groups." + groups.begin().key() + ".";
  const json& group = *groups.begin();
  const json weights = SchemeCheck::member(group, "weights");
  if (!weights.is_object()) check.refuse(path + "weights", weights, "an object");
  check_arguments(check, weights, path + "weights.", "channel", /*dynamic=*/false);
  check.require_none(group, path, "output_activations");
  const json inputs = SchemeCheck::member(group, "input_activations");
  if (inputs.is_null()) return scheme;
  if (!inputs.is_object()) check.refuse(path + "input_activations", inputs, "an object or null");
  check_arguments(check, inputs, path + "input_activations.", "token", /*dynamic=*/true);
  scheme.int8_activations = true;
  return scheme;
}

bool is_linear_weight(const std::string& name) {
  return std::any_of(kLinear.begin(), kLinear.end(), [&](std::string_view part) {
    return name.ends_with("." + std::string(part) + std::string(kWeight));
  });
}

class Int8Source final : public WeightSource {
 public:
  Int8Source(std::unique_ptr<SafetensorsReader> files, const Scheme& scheme, std::string origin)
      : files_(std::move(files)), scheme_(scheme), origin_(std::move(origin)) {
    const std::string values = scheme_.packed ? ".weight_packed" : ".weight";
    for (const SourceTensor& tensor : files_->tensors()) {
      const bool quantized = scheme_.packed || tensor.stored == "I8";
      if (tensor.name.ends_with(values) && quantized) {
        add_quantized(tensor, tensor.name.substr(0, tensor.name.size() - values.size()));
      }
    }
    for (const SourceTensor& tensor : files_->tensors()) {
      if (!parts_.contains(tensor.name)) add_plain(tensor);
    }
  }

  const std::vector<SourceTensor>& tensors() const override { return tensors_; }

  void read(const std::string& name, std::int64_t row_begin, std::span<float> out) override {
    const auto found = quantized_.find(name);
    if (found == quantized_.end()) {
      files_->read(name, row_begin, out);
      return;
    }
    const Quantized& weight = found->second;
    const auto cols = static_cast<std::size_t>(weight.cols);
    CHECK(out.size() % cols == 0, "{} values in rows of {}", out.size(), cols);
    std::vector<float> scales(out.size() / cols);
    CHECK(row_begin >= 0 && row_begin + static_cast<std::int64_t>(scales.size()) <= weight.rows,
          "rows {}+{} of {}", row_begin, scales.size(), name);
    files_->read(weight.scale, row_begin, scales);
    for (std::size_t row = 0; row < scales.size(); ++row) {
      if (!std::isfinite(scales[row])) {
        fail(ExitCode::kData, "{}: tensor {} is not finite in row {}; the file is damaged", origin_,
             weight.scale, static_cast<std::size_t>(row_begin) + row);
      }
    }
    const std::size_t piece = std::max(kPieceBytes / weight.stride, std::size_t{1});
    std::vector<std::byte> bytes(std::min(piece, scales.size()) * weight.stride);
    for (std::size_t row = 0; row < scales.size(); row += piece) {
      const std::size_t rows = std::min(piece, scales.size() - row);
      const std::size_t begin = (static_cast<std::size_t>(row_begin) + row) * weight.stride;
      files_->read_bytes(std::span(bytes).first(rows * weight.stride), weight.values,
                         static_cast<std::int64_t>(begin));
      multiply(out.subspan(row * cols, rows * cols), bytes, std::span(scales).subspan(row, rows),
               weight.stride);
    }
  }

 private:
  // Rows of `stride` bytes times their scales.
  void multiply(std::span<float> out, std::span<const std::byte> bytes,
                std::span<const float> scales, std::size_t stride) const {
    const std::size_t cols = out.size() / scales.size();
    for (std::size_t row = 0; row < scales.size(); ++row) {
      for (std::size_t i = 0; i < cols; ++i) {
        const auto value = static_cast<int>(bytes[row * stride + i]);
        // Packed values stand 128 higher; the others are two's complement.
        const int step = scheme_.packed ? value - 128 : value - (value >= 128 ? 256 : 0);
        out[row * cols + i] = static_cast<float>(step) * scales[row];
      }
    }
  }

  struct Quantized {
    std::string values, scale;  // names of tensors
    std::int64_t rows = 0, cols = 0;
    std::size_t stride = 0;  // bytes from row to row
  };

  const SourceTensor& companion(const std::string& name, const std::string& of) const {
    const SourceTensor* tensor = files_->find(name);
    if (tensor == nullptr) {
      fail(ExitCode::kData, "{}: tensor {} is missing beside {}", origin_, name, of);
    }
    return *tensor;
  }

  [[noreturn]] void refuse_shape(const SourceTensor& tensor, const std::string& wanted) const {
    fail(ExitCode::kData, "{}: tensor {} is {} {}, must be {}", origin_, tensor.name, tensor.stored,
         tensor.shape.str(), wanted);
  }

  void add_quantized(const SourceTensor& values, const std::string& base) {
    const std::string stored = scheme_.packed ? "I32" : "I8";
    if (values.stored != stored || values.shape.rank() != 2 || values.shape.count() == 0) {
      refuse_shape(values, fmt::format("{} [out, in]", stored));
    }
    Quantized weight;
    weight.values = values.name;
    weight.scale = base + ".weight_scale";
    weight.rows = values.shape[0];
    weight.cols = scheme_.packed ? packed_columns(values, base) : values.shape[1];
    weight.stride = static_cast<std::size_t>(values.shape[1] * (scheme_.packed ? kPerWord : 1));
    const SourceTensor& scale = companion(weight.scale, values.name);
    const bool is_float = scale.stored == "F32" || scale.stored == "BF16" || scale.stored == "F16";
    if (!is_float || scale.shape != Shape{weight.rows, 1}) {
      refuse_shape(scale, fmt::format("a float type and [{}, 1]", weight.rows));
    }
    parts_.insert({weight.values, weight.scale});
    const std::string name = base + std::string(kWeight);
    tensors_.push_back({name, {weight.rows, weight.cols}, "I8"});
    quantized_[name] = std::move(weight);
  }

  // The number of columns before packing, from X.weight_shape.
  std::int64_t packed_columns(const SourceTensor& values, const std::string& base) {
    const SourceTensor& shape = companion(base + ".weight_shape", values.name);
    if ((shape.stored != "I64" && shape.stored != "I32") || shape.shape != Shape{2}) {
      refuse_shape(shape, "I64 [2]");
    }
    parts_.insert(shape.name);
    const std::int64_t rows = integer_at(shape, 0), cols = integer_at(shape, 1);
    const std::int64_t words = values.shape[1];
    if (rows != values.shape[0] || cols <= (words - 1) * kPerWord || cols > words * kPerWord) {
      fail(ExitCode::kData, "{}: tensor {} says [{}, {}], which {} {} cannot hold", origin_,
           shape.name, rows, cols, values.name, values.shape.str());
    }
    return cols;
  }

  std::int64_t integer_at(const SourceTensor& tensor, std::size_t index) const {
    return tensor.stored == "I64" ? value_at<std::int64_t>(tensor.name, index)
                                  : value_at<std::int32_t>(tensor.name, index);
  }

  template <typename T>
  T value_at(const std::string& name, std::size_t index) const {
    T value = 0;
    files_->read_bytes(std::as_writable_bytes(std::span(&value, 1)), name,
                       static_cast<std::int64_t>(index * sizeof(T)));
    return value;
  }

  // Everything else passes as it is, except what would change the arithmetic unseen.
  void add_plain(const SourceTensor& tensor) {
    for (const char* suffix : {".weight_zero_point", ".weight_g_idx", ".weight_scale",
                               ".weight_shape", ".input_scale", ".output_scale"}) {
      if (tensor.name.ends_with(suffix)) {
        fail(ExitCode::kData, "{}: tensor {} belongs to no quantized weight that is understood",
             origin_, tensor.name);
      }
    }
    if (scheme_.int8_activations && is_linear_weight(tensor.name)) {
      fail(ExitCode::kData,
           "{}: tensor {} is not quantized, but others are and round their inputs; only whole "
           "models are read",
           origin_, tensor.name);
    }
    tensors_.push_back(tensor);
  }

  std::unique_ptr<SafetensorsReader> files_;
  Scheme scheme_;
  std::string origin_;
  std::vector<SourceTensor> tensors_;
  std::map<std::string, Quantized> quantized_;
  std::set<std::string> parts_;  // tensors that stand for a quantized weight
};

}  // namespace

std::unique_ptr<WeightSource> open_compressed_tensors(std::unique_ptr<SafetensorsReader> files,
                                                      const std::string& quantization_config,
                                                      bool& int8_activations,
                                                      const std::string& origin) {
  const Scheme scheme = parse_scheme(quantization_config, origin);
  int8_activations = scheme.int8_activations;
  return std::make_unique<Int8Source>(std::move(files), scheme, origin);
}

}  // namespace lockstep
