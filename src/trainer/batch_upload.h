// Micro-batches on their way to the device: host copies in a ring of pinned slots, one set of
// device buffers.
#pragma once

#include "data/loader.h"
#include "device/stream.h"
#include "nn/batch.h"

#include <vector>

namespace lockstep {

class BatchUpload {
 public:
  // Of tokens and int32 targets, as data/loader.h gives them.
  BatchUpload(const DeviceBatch& buffers, Device& device);

  // Enqueues the copy; `batch` may be reused on return, the device buffers hold it until the next
  // call. Waits only when all slots are still on their way.
  const DeviceBatch& upload(const Batch& batch, Stream& stream);

 private:
  DeviceBatch buffers_;
  PinnedBuffer staging_;
  std::vector<Event> staged_;  // a slot is free after its event
  std::int64_t uploads_ = 0;
};

}  // namespace lockstep
