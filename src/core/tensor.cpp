// Shape arithmetic and the slicing of views.
#include "core/tensor.h"

namespace lockstep {

Shape::Shape(std::span<const std::int64_t> dims) {
  CHECK(dims.size() <= kMaxRank, "{} dimensions", dims.size());
  for (const std::int64_t dim : dims) {
    CHECK(dim >= 0, "dimension {}", dim);
    dims_[static_cast<std::size_t>(rank_++)] = dim;
  }
}

std::int64_t Shape::count() const { return rows() * cols(); }

std::int64_t Shape::rows() const {
  std::int64_t product = 1;
  for (int axis = 0; axis + 1 < rank_; ++axis) product *= (*this)[axis];
  return product;
}

std::int64_t Shape::cols() const { return rank_ == 0 ? 1 : (*this)[rank_ - 1]; }

std::string Shape::str() const {
  std::string text = "[";
  for (int axis = 0; axis < rank_; ++axis) {
    text += fmt::format("{}{}", axis == 0 ? "" : ", ", (*this)[axis]);
  }
  return text + "]";
}

void Tensor::require(DType expected) const {
  CHECK(dtype == expected, "{} read as {}", str(), name_of(expected));
}

Tensor Tensor::columns(std::int64_t begin, std::int64_t width) const {
  CHECK(begin >= 0 && begin + width <= cols(), "columns {}+{} of {}", begin, width, str());
  Tensor view(static_cast<std::byte*>(data) + static_cast<std::size_t>(begin) * size_of(dtype),
              Shape{rows(), width}, dtype, device);
  view.row_stride = row_stride;
  return view;
}

Tensor Tensor::row_range(std::int64_t begin, std::int64_t count) const {
  CHECK(begin >= 0 && begin + count <= rows(), "rows {}+{} of {}", begin, count, str());
  Tensor view(
      static_cast<std::byte*>(data) + static_cast<std::size_t>(begin * row_stride) * size_of(dtype),
      Shape{count, cols()}, dtype, device);
  view.row_stride = row_stride;
  return view;
}

Tensor Tensor::elements(std::int64_t begin, std::int64_t length) const {
  return reshaped({count(), 1}).row_range(begin, length).reshaped({length});
}

Tensor Tensor::reshaped(Shape to) const {
  CHECK(contiguous() && to.count() == count(), "{} to {}", str(), to.str());
  return {data, to, dtype, device};
}

std::string Tensor::str() const {
  return fmt::format("{} {} on {}", name_of(dtype), shape.str(), device.name());
}

}  // namespace lockstep
