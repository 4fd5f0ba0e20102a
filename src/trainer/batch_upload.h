// Micro-batches on their way to the device: host copies in a ring of pinned slots, one pair of
// device buffers.
#pragma once

#include "data/loader.h"
#include "device/arena.h"
#include "device/stream.h"

#include <vector>

namespace lockstep {

// The device buffers of one micro-batch; `arena` may be dry.
struct BatchBuffers {
  BatchBuffers(Arena& arena, std::int64_t rows);

  Tensor tokens, targets;  // (N) int32
};

class BatchUpload {
 public:
  BatchUpload(BatchBuffers buffers, Device& device);

  // Enqueues the copy; `batch` may be reused on return, the device buffers hold it until the next
  // call. Waits only when all slots are still on their way.
  const BatchBuffers& upload(const Batch& batch, Stream& stream);

 private:
  BatchBuffers buffers_;
  PinnedBuffer staging_;
  std::vector<Event> staged_;  // a slot is free after its event
  std::int64_t uploads_ = 0;
};

}  // namespace lockstep
