// Calibration: sample text on its way through a model, one layer after the other. The text is cut
// into chunks that are the same at any world size and shared over the ranks; what leaves a layer
// waits in host memory for the next one, so that no more than one layer is ever at work.
// Legend: N rows (tokens) of a chunk, C hidden.
#pragma once

#include "comm/communicator.h"
#include "comm/ordered_sum.h"
#include "data/loader.h"
#include "device/arena.h"
#include "eval/eval_batches.h"
#include "nn/model.h"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace lockstep {

// What goes into a layer, of this rank's chunks: (N, C) fp32 each.
using Residuals = std::vector<std::vector<float>>;

struct CalibrationPlan {
  std::int64_t sequences = 0;  // of a chunk; the model's micro-batch
  std::int64_t chunks = 0;     // of all ranks

  // Enough chunks for `tokens`, at most once through the data, at least one.
  static CalibrationPlan make(const Dataset& data, std::int64_t tokens);
};

class Calibration {
 public:
  // `model`: in inference, fp32, of (plan.sequences, data.seq_len()) micro-batches. Samples are the
  // first ones in training order, read here: collective, and where a rank's cannot be read, all
  // throw CollectiveError. All arguments but `data` outlive this. `stop` is asked on every rank
  // before each pass; it may be empty.
  Calibration(Model& model, const Dataset& data, const CalibrationPlan& plan, World& world,
              Arena& arena, Stream& stream, std::function<bool()> stop);

  std::int64_t chunks() const { return plan_.chunks; }
  std::int64_t tokens() const { return plan_.chunks * rows_; }
  std::int64_t rows() const { return rows_; }
  Stream& stream() { return stream_; }
  World& world() { return world_; }
  Model& model() { return model_; }

  // What the first layer reads.
  Residuals enter();

  // Runs layer `index` over every own chunk of `in`; its weights may have been rewritten since the
  // last call. `tap` as forward_layer()'s, with the number of the own chunk first; it may be empty.
  // Returns what the layer gives. Collective; throws CollectiveError(kInterrupted) once a rank was
  // asked to stop.
  using Tap = std::function<void(std::size_t, std::span<const Parameter>, const Tensor& x,
                                 const Tensor& residual)>;
  Residuals run(std::int64_t index, const Residuals& in, const Tap& tap);
  // Copies a device's contiguous fp32 values to the host; blocking.
  void fetch(const Tensor& from, std::vector<float>& to);

 private:
  void read(const Dataset& data);

  Model& model_;
  CalibrationPlan plan_;
  World& world_;
  Stream& stream_;
  std::function<bool()> stop_;
  ChunkRange own_;
  std::int64_t rows_;
  std::vector<Batch> batches_;  // of the own chunks
  EvalUpload upload_;
  Tensor x_;              // (N, C)
  PinnedBuffer staging_;  // as large as x_
};

}  // namespace lockstep
