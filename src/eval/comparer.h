// Comparer: two models of one vocabulary on the same tokens, side by side on one device, the work
// split over the ranks.
#pragma once

#include "eval/comparison.h"
#include "eval/eval_batches.h"
#include "nn/model.h"

#include <functional>
#include <optional>

namespace lockstep {

class Comparer {
 public:
  // For (batch, seq_len) micro-batches, both models' plan.
  Comparer(Arena& arena, Device& device, std::int64_t batch, std::int64_t seq_len);

  // The first `samples` samples of `dataset` (0: all), on every rank alike; blocking, collective.
  // The result has the same bits at any world size. `stop` as for Evaluator. Throws
  // UserError(kData) when no target counts.
  std::optional<Comparison> run(Model& model, Model& reference, const Dataset& dataset,
                                std::int64_t samples, World& world,
                                const std::function<bool()>& stop, Stream& stream);

 private:
  void compare(const DeviceBatch& batch, Model& model, Model& reference, Stream& stream);
  ComparisonSums sums_of(const Batch& batch, DivergenceCounts& counts) const;

  EvalUpload upload_;
  Tensor losses_, reference_losses_, divergences_;  // (rows) fp32
  Tensor verdicts_;                                 // (rows) uint8
  PinnedBuffer host_;                               // the four, one after the other
};

}  // namespace lockstep
