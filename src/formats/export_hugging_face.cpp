// A Hugging Face directory, streamed: the writer asks for tensors in its order, and each is read a
// piece at a time, turned where GPT-2's Conv1D wants it, quantized or rounded, and passed on.
#include "core/error.h"
#include "core/finite.h"
#include "files/durable.h"
#include "formats/compressed_tensors.h"
#include "formats/export.h"
#include "formats/foreign_names.h"
#include "formats/hf_config.h"
#include "formats/safetensors.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <map>

namespace lockstep {
namespace {

constexpr std::int64_t kPieceValues = std::int64_t{2} << 20;  // 8 MiB of fp32
constexpr float kLargestF16 = 65504.0f;

std::string stored_name(DType dtype) {
  if (dtype == DType::kBF16) return "BF16";
  return dtype == DType::kF16 ? "F16" : "F32";
}

// A tensor of the files and the parameter that it holds, or a part of it.
struct Planned {
  StoredTensor stored;
  Parameter parameter;
  bool transposed = false;
  std::optional<Int8Part> part;  // of an int8 weight
};

std::vector<Planned> plan_tensors(const ModelConfig& config, const HuggingFaceOptions& options) {
  const DType dtype = dtype_named(options.dtype).value();
  const auto scheme = options.quantize == "w8a8" ? Int8Scheme::kW8A8 : Int8Scheme::kW8A16;
  std::vector<Planned> planned;
  for (const Parameter& parameter : declared_parameters(config)) {
    const ForeignTensor foreign = foreign_tensor(config, parameter, Naming::kHuggingFace);
    const Shape& shape = parameter.shape;
    if (options.formats && options.formats(parameter) == WeightFormat::kInt8Rows) {
      for (const Int8Tensor& tensor :
           int8_tensors(foreign.name, shape[0], shape[1], scheme, dtype)) {
        planned.push_back({tensor.stored, parameter, false, tensor.part});
      }
      continue;
    }
    Planned plain{{foreign.name, stored_name(dtype), {}}, parameter, false, {}};
    plain.transposed = foreign.layout == RowLayout::kTransposed;
    for (int axis = 0; axis < shape.rank(); ++axis) plain.stored.shape.push_back(shape[axis]);
    if (plain.transposed) std::swap(plain.stored.shape[0], plain.stored.shape[1]);
    planned.push_back(std::move(plain));
  }
  return planned;
}

// Rows and columns of a parameter; a vector is one column.
std::int64_t rows_of(const Parameter& parameter) { return parameter.shape[0]; }
std::int64_t cols_of(const Parameter& parameter) { return parameter.count() / rows_of(parameter); }

class TensorStream {
 public:
  TensorStream(SafetensorsWriter& writer, const ExportModel& model,
               const HuggingFaceOptions& options, std::int64_t total)
      : writer_(writer), model_(model), options_(options), total_(total) {}

  void write(const Planned& planned) {
    if (planned.part == Int8Part::kShape) {
      const std::int64_t shape[] = {planned.parameter.shape[0], planned.parameter.shape[1]};
      append(planned, std::as_bytes(std::span(shape)));
    } else if (planned.transposed) {
      write_transposed(planned);
    } else {
      write_rows(planned);
    }
  }

 private:
  // Rows [row, row + rows) of the parameter, checked.
  const std::vector<float>& read(const Planned& planned, std::int64_t row, std::int64_t rows) {
    values_.resize(static_cast<std::size_t>(rows * cols_of(planned.parameter)));
    model_.weights->read(planned.parameter.name, row, values_);
    require_finite(values_, model_.origin, planned.parameter.name);
    if (options_.dtype != "fp16") return values_;
    for (const float x : values_) {
      if (std::fabs(x) <= kLargestF16) continue;
      fail(ExitCode::kUsage, "--dtype fp16: tensor {} holds {:g}, beyond its range; use bf16",
           planned.parameter.name, x);
    }
    return values_;
  }

  void write_rows(const Planned& planned) {
    const std::int64_t rows = rows_of(planned.parameter), cols = cols_of(planned.parameter);
    const std::int64_t step = std::max<std::int64_t>(1, kPieceValues / cols);
    const auto scheme = options_.quantize == "w8a8" ? Int8Scheme::kW8A8 : Int8Scheme::kW8A16;
    for (std::int64_t row = 0; row < rows; row += step) {
      const std::vector<float>& values = read(planned, row, std::min(step, rows - row));
      if (planned.part) {
        append(planned, int8_bytes(*planned.part, values, cols, scheme,
                                   dtype_named(options_.dtype).value()));
      } else {
        append_rounded(planned, values);
      }
    }
  }

  // Stored rows are columns of the parameter, gathered from one pass over its rows per piece.
  void write_transposed(const Planned& planned) {
    const std::int64_t rows = rows_of(planned.parameter), cols = cols_of(planned.parameter);
    const std::int64_t width = std::max<std::int64_t>(1, kPieceValues / rows);
    const std::int64_t step = std::max<std::int64_t>(1, kPieceValues / cols);
    std::vector<float> turned;
    for (std::int64_t col = 0; col < cols; col += width) {
      const std::int64_t columns = std::min(width, cols - col);
      turned.resize(static_cast<std::size_t>(columns * rows));
      for (std::int64_t row = 0; row < rows; row += step) {
        const std::int64_t count = std::min(step, rows - row);
        const std::vector<float>& values = read(planned, row, count);
        for (std::int64_t r = 0; r < count; ++r) {
          for (std::int64_t c = 0; c < columns; ++c) {
            turned[static_cast<std::size_t>(c * rows + row + r)] =
                values[static_cast<std::size_t>(r * cols + col + c)];
          }
        }
      }
      append_rounded(planned, turned);
    }
  }

  template <typename T>
  void append_as(const Planned& planned, const std::vector<float>& values) {
    std::vector<T> rounded(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) rounded[i] = from_float<T>(values[i]);
    append(planned, std::as_bytes(std::span(rounded)));
  }

  void append_rounded(const Planned& planned, const std::vector<float>& values) {
    switch (dtype_named(options_.dtype).value()) {
      case DType::kBF16: append_as<bf16>(planned, values); return;
      case DType::kF16: append_as<f16>(planned, values); return;
      default: append_as<float>(planned, values); return;
    }
  }

  void append(const Planned& planned, std::span<const std::byte> bytes) {
    writer_.append(planned.stored.name, bytes);
    done_ += static_cast<std::int64_t>(bytes.size());
    if (options_.progress) options_.progress(done_, total_);
  }

  SafetensorsWriter& writer_;
  const ExportModel& model_;
  const HuggingFaceOptions& options_;
  std::int64_t total_;
  std::int64_t done_ = 0;
  std::vector<float> values_;
};

void write_configs(const std::string& directory, const ExportModel& model,
                   const HuggingFaceOptions& options) {
  HfConfig config;
  config.model = model.config;
  config.dtype = options.dtype;
  if (options.quantize != "none") {
    config.quantization = compressed_tensors_config(
        options.quantize == "w8a8" ? Int8Scheme::kW8A8 : Int8Scheme::kW8A16);
  }
  GenerationConfig generation = model.generation;
  if (model.tokenizer != nullptr) generation = completed(generation, model.tokenizer->table());
  config.bos_token_id = generation.bos;
  config.eos_token_ids = generation.eos;
  write_new_file(directory + "/config.json", hf_config_text(config));
  write_new_file(directory + "/generation_config.json",
                 (generation.text.empty() ? "{}" : generation.text) + "\n");
}

}  // namespace

void check_hugging_face(const ModelConfig& config, const std::string& quantize) {
  if (quantize == "none") return;
  for (const Parameter& parameter : declared_parameters(config)) {
    const ForeignTensor foreign = foreign_tensor(config, parameter, Naming::kHuggingFace);
    if (foreign.layout != RowLayout::kTransposed) continue;
    fail(ExitCode::kUsage,
         "--quantize {}: this is a {}, and its projections are Conv1D, which compressed-tensors "
         "cannot hold: export --format gguf",
         quantize, config.architecture);
  }
}

std::int64_t hugging_face_bytes(const ModelConfig& config, const HuggingFaceOptions& options) {
  std::int64_t bytes = 0;
  for (const Planned& planned : plan_tensors(config, options)) bytes += planned.stored.bytes();
  return bytes;
}

void write_hugging_face(const std::string& directory, const ExportModel& model,
                        const HuggingFaceOptions& options) {
  check_hugging_face(model.config, options.quantize);
  write_configs(directory, model, options);
  if (model.tokenizer != nullptr) model.tokenizer->save_hugging_face(directory);
  std::map<std::string, Planned> by_name;
  std::vector<StoredTensor> stored;
  for (Planned& planned : plan_tensors(model.config, options)) {
    stored.push_back(planned.stored);
    by_name.emplace(planned.stored.name, std::move(planned));
  }
  SafetensorsWriter writer(directory, stored, options.max_file_bytes);
  TensorStream stream(writer, model, options, hugging_face_bytes(model.config, options));
  const std::vector<StoredTensor> order = writer.order();
  for (const StoredTensor& tensor : order) stream.write(by_name.at(tensor.name));
  writer.finish();
}

}  // namespace lockstep
