// Shape and Tensor: a non-owning, strided-by-row view of memory on one device.
// A Tensor never allocates and never frees: the Arena (device/arena.h) owns memory.
#pragma once

#include "core/dtype.h"
#include "core/error.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

namespace lockstep {

// Up to four dimensions; unused ones are absent, not 1.
class Shape {
 public:
  static constexpr int kMaxRank = 4;
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> dims) : Shape(std::span(dims.begin(), dims.size())) {}
  explicit Shape(std::span<const std::int64_t> dims);

  int rank() const { return rank_; }
  std::int64_t operator[](int axis) const { return dims_[static_cast<std::size_t>(axis)]; }
  std::int64_t count() const;  // number of elements; 1 for rank 0
  std::int64_t rows() const;   // product of all but the last dimension
  std::int64_t cols() const;   // last dimension (1 for rank 0)
  bool operator==(const Shape& other) const = default;
  std::string str() const;  // "[8, 1024, 768]"

 private:
  std::array<std::int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

// Whose memory it is. The CPU's is the host's own; every other backend has a name of its own.
class DeviceKind {
 public:
  static const DeviceKind kCpu;
  constexpr explicit DeviceKind(std::string_view name) : name_(name) {}
  constexpr std::string_view name() const { return name_; }
  bool operator==(const DeviceKind& other) const = default;

 private:
  std::string_view name_;  // a literal
};
inline constexpr DeviceKind DeviceKind::kCpu{"cpu"};

// A view. Elements of the last axis are contiguous; consecutive rows are `row_stride` elements
// apart (equal to cols() unless the view is a column slice of a wider buffer, such as the q part
// of a packed qkv).
struct Tensor {
  void* data = nullptr;
  Shape shape;
  DType dtype = DType::kF32;
  DeviceKind device = DeviceKind::kCpu;
  std::int64_t row_stride = 0;

  Tensor() = default;
  Tensor(void* data_, Shape shape_, DType dtype_, DeviceKind device_)
      : data(data_), shape(shape_), dtype(dtype_), device(device_), row_stride(shape_.cols()) {}

  explicit operator bool() const { return data != nullptr; }
  std::int64_t count() const { return shape.count(); }
  std::int64_t rows() const { return shape.rows(); }
  std::int64_t cols() const { return shape.cols(); }
  std::size_t bytes() const { return static_cast<std::size_t>(count()) * size_of(dtype); }
  bool contiguous() const { return row_stride == shape.cols(); }

  // The typed pointer; CHECKs that the dtype is T's.
  template <typename T>
  T* as() const {
    require(dtype_of<T>);
    return static_cast<T*>(data);
  }
  // Columns [begin, begin + width) of every row, as a view of shape (rows, width).
  Tensor columns(std::int64_t begin, std::int64_t width) const;
  // Rows [begin, begin + count) of the (rows, cols) matrix.
  Tensor row_range(std::int64_t begin, std::int64_t count) const;
  // Elements [begin, begin + count) of a contiguous tensor, as a vector.
  Tensor elements(std::int64_t begin, std::int64_t count) const;
  // The same contiguous memory under another shape with as many elements.
  Tensor reshaped(Shape to) const;
  std::string str() const;  // "bf16 [8, 1024] on cuda"

 private:
  // Out of line: nvcc cannot evaluate the format check of a message with values.
  void require(DType expected) const;
};

}  // namespace lockstep
