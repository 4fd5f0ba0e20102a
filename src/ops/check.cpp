// The checks behind every op.
#include "ops/check.h"

#include "device/device.h"

namespace lockstep::ops {
namespace {

void check_present(const char* name, const Tensor& tensor, const Stream& stream) {
  CHECK(tensor.data != nullptr, "{} is absent", name);
  const DeviceKind kind = stream.device().kind();
  CHECK(tensor.device == kind, "{} is on {}, the stream on {}", name, tensor.device.name(),
        kind.name());
}

void check_dtype(const char* name, const Tensor& tensor, DType dtype) {
  CHECK(tensor.dtype == dtype, "{} is {}, must be {}", name, name_of(tensor.dtype), name_of(dtype));
}

}  // namespace

bool is_storage(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

void check_storage(const char* name, DType dtype) {
  CHECK(is_storage(dtype), "{} is {}, must be fp32, bf16 or fp16", name, name_of(dtype));
}

void check_format(const char* name, const Weight& weight) {
  CHECK(is_plain(weight.format), "{} is {}: no kernel takes this format", name,
        name_of(weight.format));
}

void check_matrix(const char* name, const Tensor& tensor, std::int64_t rows, std::int64_t cols,
                  DType dtype, const Stream& stream, Layout layout) {
  check_present(name, tensor, stream);
  check_dtype(name, tensor, dtype);
  CHECK(rows > 0 && cols > 0, "{} has {} rows and {} columns", name, rows, cols);
  CHECK(tensor.rows() == rows && tensor.cols() == cols, "{} is {}, must be [{}, {}]", name,
        tensor.shape.str(), rows, cols);
  CHECK(tensor.row_stride >= cols, "{} has row stride {} for {} columns", name, tensor.row_stride,
        cols);
  CHECK(layout == Layout::kStridedRows || tensor.contiguous(),
        "{} has row stride {}, must be contiguous", name, tensor.row_stride);
}

void check_vector(const char* name, const Tensor& tensor, std::int64_t count, DType dtype,
                  const Stream& stream) {
  check_present(name, tensor, stream);
  check_dtype(name, tensor, dtype);
  CHECK(tensor.count() == count && tensor.contiguous(), "{} is {}, must be {} contiguous elements",
        name, tensor.shape.str(), count);
}

void check_scratch(const char* name, const Tensor& tensor, std::size_t bytes,
                   const Stream& stream) {
  if (bytes == 0) return;
  check_present(name, tensor, stream);
  check_dtype(name, tensor, DType::kU8);
  CHECK(tensor.bytes() >= bytes, "{} has {} bytes, needs {}", name, tensor.bytes(), bytes);
}

}  // namespace lockstep::ops
