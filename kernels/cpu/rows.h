// Where storage types meet fp32: CPU kernels compute on rows of floats and load and store through
// these functions. An fp32 row is read in place; 16-bit rows are converted into a caller's buffer.
#pragma once

#include "core/tensor.h"

#include <cstdint>

namespace lockstep::cpu {

// dst[i] = float(src[i]); exact.
void load_row(float* dst, const void* src, DType dtype, std::int64_t count);
// dst[i] = src[i] rounded to nearest even.
void store_row(void* dst, const float* src, DType dtype, std::int64_t count);
// dst[i] += src[i], the sum rounded to dtype.
void add_to_row(void* dst, const float* src, DType dtype, std::int64_t count);

// The address of element (row, column).
inline void* element(const Tensor& tensor, std::int64_t row, std::int64_t column = 0) {
  const std::int64_t index = row * tensor.row_stride + column;
  return static_cast<std::byte*>(tensor.data) +
         index * static_cast<std::int64_t>(size_of(tensor.dtype));
}

// `count` elements from (row, column) as floats: the tensor's own memory, or `buffer` filled.
inline const float* row_of(const Tensor& tensor, std::int64_t row, std::int64_t column,
                           std::int64_t count, float* buffer) {
  const void* source = element(tensor, row, column);
  if (tensor.dtype == DType::kF32) return static_cast<const float*>(source);
  load_row(buffer, source, tensor.dtype, count);
  return buffer;
}

// A row that is about to be written: the tensor's own memory in fp32, else `buffer`, which
// store_output() then rounds into the tensor.
inline float* output_row(const Tensor& tensor, std::int64_t row, float* buffer) {
  return tensor.dtype == DType::kF32 ? static_cast<float*>(element(tensor, row)) : buffer;
}
inline void store_output(const Tensor& tensor, std::int64_t row, const float* values) {
  if (tensor.dtype != DType::kF32) {
    store_row(element(tensor, row), values, tensor.dtype, tensor.cols());
  }
}

// A matrix of floats for cblas: `stride` elements from row to row.
struct Matrix {
  const float* data = nullptr;
  std::int64_t stride = 0;
};

// Rows [row, row + rows) x columns [column, column + columns): in place for fp32, else converted
// into `buffer` (rows * columns floats).
Matrix matrix_of(const Tensor& tensor, std::int64_t row, std::int64_t rows, std::int64_t column,
                 std::int64_t columns, float* buffer);

}  // namespace lockstep::cpu
