// The list of tensors first, which fixes the file's layout; then their values.
#include "formats/gguf_export.h"

#include "core/error.h"
#include "core/finite.h"
#include "files/free_space.h"
#include "formats/foreign_family.h"
#include "formats/gguf_vocabulary.h"
#include "formats/rope_factors.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <set>

namespace lockstep {
namespace {

constexpr std::int64_t kPieceValues = std::int64_t{2} << 20;  // 8 MiB of fp32

// general.file_type
std::uint32_t file_type(GgufType type) {
  switch (type) {
    case GgufType::kF32: return 0;
    case GgufType::kF16: return 1;
    case GgufType::kQ8_0: return 7;
    case GgufType::kBF16: return 32;
    default: CHECK(false, "{} is not written", name_of(type));
  }
}

struct Planned {
  Parameter parameter;
  RowLayout layout = RowLayout::kSame;
  bool zeros = false;  // the model has no such bias
};

class Exporter {
 public:
  Exporter(const GgufExport& model, WeightSource& weights, const GgufProgress& progress)
      : model_(model),
        weights_(weights),
        progress_(progress),
        config_(foreign_family(model.config).gguf_config(model.config)) {
    summary_.architecture = config_.architecture;
    plan_tensors();
  }

  GgufSummary write(const std::string& path) {
    const GgufMetadata metadata = describe();
    const std::vector<float> factors = rope_factors(config_);
    if (!factors.empty()) {
      tensors_.push_back({kRopeFactorsName, {config_.head_dim / 2}, GgufType::kF32});
    }
    const std::string parent = std::filesystem::path(path).parent_path();
    require_free_space(parent.empty() ? "." : parent, data_bytes());
    GgufWriter writer(path, metadata, tensors_);
    for (std::size_t i = 0; i < planned_.size(); ++i)
      write_tensor(writer, planned_[i], tensors_[i]);
    if (!factors.empty()) writer.append(kRopeFactorsName, factors);
    writer.finish();
    summary_.bytes = static_cast<std::int64_t>(std::filesystem::file_size(path));
    return summary_;
  }

 private:
  void plan_tensors() {
    std::set<std::string> present;
    for (const SourceTensor& tensor : weights_.tensors()) present.insert(tensor.name);
    std::vector<Parameter> parameters = declared_parameters(config_);
    std::reverse(parameters.begin(), parameters.end());  // from the input to the output
    for (const Parameter& parameter : parameters) {
      const ForeignTensor foreign = foreign_tensor(config_, parameter, Naming::kGguf);
      const bool zeros = !present.contains(parameter.name);
      CHECK(!zeros || parameter.name.ends_with(".bias"), "{} is missing", parameter.name);
      planned_.push_back({parameter, foreign.layout, zeros});
      tensors_.push_back({foreign.name, parameter.shape, type_of(parameter, foreign.name)});
      total_ += parameter.count();
    }
  }

  GgufType type_of(const Parameter& parameter, const std::string& name) {
    if (parameter.shape.rank() == 1 || name == "position_embd.weight") return GgufType::kF32;
    if (!model_.formats) return model_.type;
    const GgufType type = gguf_type_of(model_.formats(parameter));
    if (type != model_.type) summary_.as_f16.push_back(name);
    return type;
  }

  GgufMetadata describe() const {
    GgufMetadata metadata = {{"general.architecture", config_.architecture},
                             {"general.type", std::string("model")},
                             {"general.name", model_.name},
                             {"general.quantization_version", std::uint32_t{2}},
                             {"general.file_type", file_type(model_.type)}};
    foreign_family(config_).add_hyperparameters(metadata, config_);
    add_vocabulary(metadata, *model_.tokenizer, model_.generation, model_.tokenizer_pre,
                   config_.vocab);
    return metadata;
  }

  std::int64_t data_bytes() const {
    std::int64_t bytes = 0;
    for (const GgufTensor& tensor : tensors_) {
      bytes += tensor.shape.rows() * gguf_row_bytes(tensor.type, tensor.shape.cols());
    }
    return bytes;
  }

  void write_tensor(GgufWriter& writer, const Planned& planned, const GgufTensor& tensor) {
    const std::int64_t rows = tensor.shape[0], cols = tensor.shape.count() / rows;
    // Whole heads, where rows change places within one.
    const std::int64_t unit = planned.layout == RowLayout::kRotaryPairs ? config_.head_dim : 1;
    const std::int64_t step = std::max<std::int64_t>(1, kPieceValues / (cols * unit)) * unit;
    for (std::int64_t row = 0; row < rows; row += step) {
      piece_.assign(static_cast<std::size_t>(std::min(step, rows - row) * cols), 0.0f);
      if (!planned.zeros) weights_.read(planned.parameter.name, row, piece_);
      check_values(planned.parameter.name, tensor.type);
      if (planned.layout == RowLayout::kRotaryPairs) pair_rows(cols);
      writer.append(tensor.name, piece_);
      done_ += static_cast<std::int64_t>(piece_.size());
      if (progress_) progress_(done_, total_);
    }
  }

  void check_values(const std::string& name, GgufType type) const {
    require_finite(piece_, model_.origin, name);
    // The largest magnitudes that round to a finite value; Q8_0's scale is a 127th in fp16.
    const float fp16_limit = 65519.0f;
    const float limit = type == GgufType::kF16    ? fp16_limit
                        : type == GgufType::kQ8_0 ? fp16_limit * 127.0f
                        : type == GgufType::kBF16 ? 3.38e38f
                                                  : std::numeric_limits<float>::max();
    for (const float value : piece_) {
      if (std::fabs(value) <= limit) continue;
      fail(ExitCode::kData,
           "{}: tensor {} holds {}, which {} cannot; export with --dtype bf16 or fp32",
           model_.origin, name, value, name_of(type));
    }
  }

  // Halves of each head to neighbours: row 2j comes from j, row 2j + 1 from j + D/2.
  void pair_rows(std::int64_t cols) {
    const std::int64_t dim = config_.head_dim;
    halves_ = piece_;
    const std::int64_t rows = static_cast<std::int64_t>(piece_.size()) / cols;
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t j = row % dim;
      const std::int64_t from = row - j + j / 2 + (j % 2) * (dim / 2);
      std::copy_n(halves_.begin() + from * cols, cols, piece_.begin() + row * cols);
    }
  }

  const GgufExport& model_;
  WeightSource& weights_;
  const GgufProgress& progress_;
  ModelConfig config_;  // as the file has it
  std::vector<Planned> planned_;
  std::vector<GgufTensor> tensors_;  // the planned ones, then rotary factors
  GgufSummary summary_;
  std::vector<float> piece_, halves_;
  std::int64_t done_ = 0, total_ = 0;
};

}  // namespace

GgufSummary write_gguf(const std::string& path, const GgufExport& model, WeightSource& weights,
                       const GgufProgress& progress) {
  if (model.tokenizer == nullptr) {
    fail(ExitCode::kUsage,
         "--tokenizer: a GGUF file carries its tokenizer and this model brings none; name it");
  }
  const auto entries = static_cast<std::int64_t>(model.tokenizer->table().entries.size());
  if (entries > model.config.vocab) {
    fail(ExitCode::kUsage, "--tokenizer: it has {} entries, the model only {} token ids", entries,
         model.config.vocab);
  }
  return Exporter(model, weights, progress).write(path);
}

}  // namespace lockstep
