// EvalBatches: the micro-batches of a judgement in file order, cut alike at any world size and
// shared over the ranks in blocks; and how one of them gets onto a device.
#pragma once

#include "comm/communicator.h"
#include "comm/ordered_sum.h"
#include "data/loader.h"
#include "device/device.h"
#include "nn/batch.h"

#include <cstdint>
#include <functional>

namespace lockstep {

class EvalBatches {
 public:
  // The first `samples` samples of `dataset` (0: all), `batch` at a time; both outlive this.
  EvalBatches(const Dataset& dataset, std::int64_t samples, std::int64_t batch, World& world);

  std::int64_t chunks() const { return chunks_; }  // of all ranks
  ChunkRange own() const { return own_; }

  // Calls visit(i, micro-batch) for each of this rank's, i from 0. Collective: `stop` is asked
  // every few batches; true on any rank ends it everywhere, and false is returned.
  bool each(const std::function<bool()>& stop,
            const std::function<void(std::int64_t, const Batch&)>& visit) const;

 private:
  const Dataset& dataset_;
  World& world_;
  std::int64_t batch_;
  std::int64_t samples_;
  std::int64_t chunks_;
  ChunkRange own_;
};

// Brings micro-batches to a device, into tokens and targets (batch, seq_len) int32.
class EvalUpload {
 public:
  EvalUpload(Tensor tokens, Tensor targets, Device& device);

  std::int64_t batch() const { return tokens_.shape[0]; }
  std::int64_t seq_len() const { return tokens_.shape[1]; }
  std::int64_t rows() const { return tokens_.count(); }
  // Waits for the stream, then enqueues the copy. The result is good until the next call.
  DeviceBatch upload(const Batch& batch, Stream& stream);

 private:
  Tensor tokens_, targets_;
  PinnedBuffer staging_;
};

}  // namespace lockstep
