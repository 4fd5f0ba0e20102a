// PrunedWeights: a model's tensors where some were replaced by smaller ones, as a source of weights
// like any other.
#pragma once

#include "core/weight_source.h"

#include <map>
#include <string>
#include <vector>

namespace lockstep {

class PrunedWeights final : public WeightSource {
 public:
  // `original` outlives this.
  explicit PrunedWeights(WeightSource& original)
      : original_(original), tensors_(original.tensors()) {}

  // `values` row-major. The tensor exists.
  void replace(const std::string& name, const Shape& shape, std::vector<float> values);

  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  void read(const std::string& name, std::int64_t row_begin, std::span<float> out) override;

 private:
  WeightSource& original_;
  std::vector<SourceTensor> tensors_;
  std::map<std::string, std::vector<float>> replaced_;
};

}  // namespace lockstep
