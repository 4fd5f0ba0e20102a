// Weight: what a layer reads of one parameter, in whatever format it lies in device memory.
#pragma once

#include "core/tensor.h"
#include "core/weight_format.h"

namespace lockstep {

// A view, as Tensor is. A tensor of fp32, bf16 or fp16 is a weight as it stands.
struct Weight {
  WeightFormat format = WeightFormat::kF32;
  Tensor data;    // plain: (rows, cols), or (n) for a vector; else (rows, bytes of a row) uint8
  Tensor scales;  // (rows) fp32 where the format has scales beside the data

  Weight() = default;
  Weight(const Tensor& plain)  // not explicit: a tensor is a weight
      : format(plain.dtype == DType::kBF16  ? WeightFormat::kBF16
               : plain.dtype == DType::kF16 ? WeightFormat::kF16
                                            : WeightFormat::kF32),
        data(plain) {}
  Weight(WeightFormat format_, const Tensor& data_, const Tensor& scales_)
      : format(format_), data(data_), scales(scales_) {}

  explicit operator bool() const { return static_cast<bool>(data); }
  std::int64_t rows() const { return data.rows(); }
  // Values in a row.
  std::int64_t cols() const {
    const BlockGeometry block = geometry_of(format);
    return is_plain(format) ? data.cols() : data.cols() / block.bytes * block.values;
  }
  // Rows [begin, begin + count) of a matrix.
  Weight row_range(std::int64_t begin, std::int64_t count) const {
    return {format, data.row_range(begin, count),
            scales ? scales.elements(begin, count) : Tensor{}};
  }
};

}  // namespace lockstep
