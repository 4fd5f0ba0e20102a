// The buffers of a batch.
#include "nn/batch.h"

namespace lockstep {

DeviceBatch allocate_batch(Arena& arena, const BatchShape& shape, std::int64_t rows) {
  const auto allocate = [&](const char* name, Shape dims, DType dtype) {
    return arena.allocate(name, dims, dtype, MemoryGroup::kActivations);
  };
  DeviceBatch batch;
  if (shape.features > 0) {
    batch.features = allocate("features", {rows, shape.features}, DType::kF32);
  } else {
    batch.tokens = allocate("tokens", {rows}, DType::kI32);
  }
  if (shape.target_values > 0) {
    batch.targets = allocate("targets", {rows, shape.target_values}, DType::kF32);
  } else {
    batch.targets = allocate("targets", {rows}, DType::kI32);
  }
  if (shape.mask) batch.mask = allocate("mask", {rows}, DType::kU8);
  return batch;
}

}  // namespace lockstep
