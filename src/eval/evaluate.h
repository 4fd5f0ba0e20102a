// Evaluator: loss, perplexity and next-token accuracy of a model over the targets that count, in
// file order, the work split over the ranks. Training validates with it, Judge judges with it.
#pragma once

#include "comm/communicator.h"
#include "data/loader.h"
#include "nn/evaluation.h"
#include "nn/model.h"

#include <functional>
#include <optional>

namespace lockstep {

class Evaluator {
 public:
  // Buffers for (batch, seq_len) micro-batches, those of the model's plan.
  Evaluator(Arena& arena, Device& device, std::int64_t batch, std::int64_t seq_len);

  // The first `samples` samples of `dataset` (0: all), on every rank alike; blocking, collective.
  // `stop` is asked (collectively) every few batches; true on any rank abandons: no value.
  // Throws UserError(kData) when no target counts.
  std::optional<Evaluation> run(Model& model, const Dataset& dataset, std::int64_t samples,
                                World& world, const std::function<bool()>& stop, Stream& stream);

 private:
  std::int64_t batch_;
  std::int64_t seq_len_;
  Tensor tokens_, targets_;  // (N) int32
  Tensor totals_;            // (3) fp64
  PinnedBuffer staging_;
};

}  // namespace lockstep
