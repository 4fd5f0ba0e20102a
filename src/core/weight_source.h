// WeightSource: the tensors of a model in files of any format, read as fp32 a range of rows at a
// time, so that nobody ever holds a whole model twice.
#pragma once

#include "core/tensor.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace lockstep {

struct SourceTensor {
  std::string name;
  Shape shape;
  std::string stored;  // how the file keeps it: "F32", "BF16", "Q8_0", ...
};

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  virtual const std::vector<SourceTensor>& tensors() const = 0;
  // Rows [row_begin, row_begin + n) along axis 0, dequantized to fp32; n follows from out.size(),
  // which must be whole rows. Blocking. Throws UserError(kData) naming file and tensor.
  virtual void read(const std::string& name, std::int64_t row_begin, std::span<float> out) = 0;

  const SourceTensor* find(const std::string& name) const {
    for (const SourceTensor& tensor : tensors()) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  }
};

}  // namespace lockstep
