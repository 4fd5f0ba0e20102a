// What was replaced is held in memory as fp32.
#include "compress/pruned_weights.h"

#include "core/error.h"

#include <algorithm>
#include <utility>

namespace lockstep {

void PrunedWeights::replace(const std::string& name, const Shape& shape,
                            std::vector<float> values) {
  CHECK(static_cast<std::int64_t>(values.size()) == shape.count(), "{} values of {}", values.size(),
        name);
  const auto tensor = std::find_if(tensors_.begin(), tensors_.end(),
                                   [&](const SourceTensor& t) { return t.name == name; });
  CHECK(tensor != tensors_.end(), "no tensor {}", name);
  *tensor = {name, shape, "F32"};
  replaced_[name] = std::move(values);
}

void PrunedWeights::read(const std::string& name, std::int64_t row_begin, std::span<float> out) {
  const auto found = replaced_.find(name);
  if (found == replaced_.end()) return original_.read(name, row_begin, out);
  const Shape& shape = find(name)->shape;
  const std::int64_t begin = row_begin * (shape.count() / shape[0]);
  CHECK(begin + static_cast<std::int64_t>(out.size()) <= shape.count(), "rows of {}", name);
  std::copy_n(found->second.begin() + begin, out.size(), out.begin());
}

}  // namespace lockstep
