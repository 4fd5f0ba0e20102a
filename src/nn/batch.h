// DeviceBatch: one micro-batch in device memory, as a model reads it; BatchShape: which of its
// parts a model wants. Absent tensors are parts that it does not have. Legend: B micro-batch, T
// sequence, N = B*T.
#pragma once

#include "device/arena.h"

#include <cstdint>

namespace lockstep {

struct DeviceBatch {
  Tensor tokens;    // (N) int32, or
  Tensor features;  // (N, F) fp32
  Tensor targets;   // (N) int32, where below 0 counts for nothing, or (N, K) fp32
  Tensor mask;      // (N) uint8: 1 where the target counts; absent: all do
  Tensor
      document_starts;  // (N) int32: where in its sequence the row's document begins; absent: at 0
};

struct BatchShape {
  std::int64_t features = 0;       // F; 0: tokens
  std::int64_t target_values = 0;  // K; 0: one int32 each
  bool mask = false;
};

// Buffers for `rows` rows.
DeviceBatch allocate_batch(Arena& arena, const BatchShape& shape, std::int64_t rows);

}  // namespace lockstep
