// The argument checks that every op makes once before its kernel runs: presence, device, dtype,
// shape, layout, scratch. Failures are CheckErrors that name the op's argument and what it should
// be.
#pragma once

#include "core/tensor.h"
#include "core/weight.h"
#include "device/stream.h"

#include <cstddef>
#include <cstdint>

namespace lockstep::ops {

enum class Layout { kContiguous, kStridedRows };

// fp32, bf16 or fp16.
bool is_storage(DType dtype);
void check_storage(const char* name, DType dtype);

// The weight is of plain elements, or absent: no kernel computes with other formats yet.
void check_format(const char* name, const Weight& weight);

// `tensor` is there, on the stream's device, and holds rows x cols elements of dtype; leading
// dimensions may be folded, so (B, T, C) passes for (B*T, C).
void check_matrix(const char* name, const Tensor& tensor, std::int64_t rows, std::int64_t cols,
                  DType dtype, const Stream& stream, Layout layout = Layout::kContiguous);
// The same for `count` contiguous elements of any shape.
void check_vector(const char* name, const Tensor& tensor, std::int64_t count, DType dtype,
                  const Stream& stream);
// At least `bytes` bytes of uint8; may be absent when `bytes` is 0.
void check_scratch(const char* name, const Tensor& tensor, std::size_t bytes, const Stream& stream);

}  // namespace lockstep::ops
