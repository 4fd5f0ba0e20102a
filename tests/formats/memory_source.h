// A WeightSource in memory, and the state dicts that another program would have of a model whose
// parameters hold known values.
#pragma once

#include "core/error.h"
#include "core/weight_source.h"
#include "formats/foreign_names.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace lockstep::test {

class MemorySource final : public WeightSource {
 public:
  void add(const std::string& name, Shape shape, std::vector<float> values) {
    tensors_.push_back({name, shape, "F32"});
    values_[name] = std::move(values);
  }
  void remove(const std::string& name) {
    std::erase_if(tensors_, [&](const SourceTensor& tensor) { return tensor.name == name; });
  }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  void read(const std::string& name, std::int64_t row_begin, std::span<float> out) override {
    const SourceTensor* tensor = find(name);
    CHECK(tensor != nullptr, "no tensor {}", name);
    const std::vector<float>& values = values_.at(name);
    const std::size_t cols = values.size() / static_cast<std::size_t>(tensor->shape[0]);
    const std::size_t begin = static_cast<std::size_t>(row_begin) * cols;
    CHECK(begin + out.size() <= values.size() && out.size() % cols == 0, "{}", name);
    std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(begin), out.size(), out.begin());
  }

 private:
  std::vector<SourceTensor> tensors_;
  std::map<std::string, std::vector<float>> values_;
};

// Element (row, col) of parameter number `index`; exact in fp32.
inline float value_of(std::size_t index, std::int64_t row, std::int64_t col) {
  return static_cast<float>(static_cast<std::int64_t>(index) * 65536 + row * 256 + col);
}

// The row of the foreign tensor at which our row is stored.
inline std::int64_t stored_row(RowLayout layout, std::int64_t row, std::int64_t head_dim) {
  if (layout != RowLayout::kRotaryPairs) return row;
  const std::int64_t head = row / head_dim, j = row % head_dim, half = head_dim / 2;
  return head * head_dim + (j < half ? 2 * j : 2 * (j - half) + 1);
}

// A parameter's values as the other program lays them out, and their shape.
inline std::vector<float> foreign_values(const Parameter& parameter, const ForeignTensor& foreign,
                                         std::size_t index, std::int64_t head_dim, Shape& shape) {
  const std::int64_t rows = parameter.shape[0], cols = parameter.count() / rows;
  shape = parameter.shape;
  const bool transposed = foreign.layout == RowLayout::kTransposed;
  if (transposed) shape = {cols, rows};
  std::vector<float> values(static_cast<std::size_t>(rows * cols));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      const std::int64_t at =
          transposed ? c * rows + r : stored_row(foreign.layout, r, head_dim) * cols + c;
      values[static_cast<std::size_t>(at)] = value_of(index, r, c);
    }
  }
  return values;
}

inline MemorySource foreign_source(const ModelConfig& config, Naming naming) {
  MemorySource source;
  const std::vector<Parameter> parameters = declared_parameters(config);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const ForeignTensor foreign = foreign_tensor(config, parameters[i], naming);
    Shape shape;
    std::vector<float> values = foreign_values(parameters[i], foreign, i, config.head_dim, shape);
    source.add(foreign.name, shape, std::move(values));
  }
  return source;
}

// Every row of every parameter of `config` holds value_of(), read in pieces of one to three rows.
inline std::string first_difference(WeightSource& weights, const ModelConfig& config) {
  const std::vector<Parameter> parameters = declared_parameters(config);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    const std::int64_t rows = parameters[i].shape[0], cols = parameters[i].count() / rows;
    for (std::int64_t begin = 0, step = 1; begin < rows; begin += step, step = step % 3 + 1) {
      step = std::min(step, rows - begin);
      std::vector<float> values(static_cast<std::size_t>(step * cols));
      weights.read(parameters[i].name, begin, values);
      for (std::int64_t at = 0; at < step * cols; ++at) {
        if (values[static_cast<std::size_t>(at)] == value_of(i, begin + at / cols, at % cols)) {
          continue;
        }
        return fmt::format("{} row {}", parameters[i].name, begin + at / cols);
      }
    }
  }
  return "";
}

}  // namespace lockstep::test
