// Evaluator: loss, perplexity and next-token accuracy of a model over the targets that count, in
// file order, the work split over the ranks. Training validates with it, Judge judges with it.
#pragma once

#include "eval/eval_batches.h"
#include "nn/evaluation.h"
#include "nn/model.h"

#include <functional>
#include <optional>

namespace lockstep {

// The device buffers of an evaluation; `arena` may be dry.
struct EvalBuffers {
  EvalBuffers(Arena& arena, std::int64_t batch, std::int64_t seq_len);

  Tensor tokens, targets;  // (batch, seq_len) int32
  Tensor totals;           // (3) fp64, of one micro-batch
};

class Evaluator {
 public:
  // For the (batch, seq_len) micro-batches that `buffers` are made for, the model's plan.
  Evaluator(EvalBuffers buffers, Device& device);

  // The first `samples` samples of `dataset` (0: all), on every rank alike; blocking, collective.
  // The result has the same bits at any world size.
  // `stop` is asked (collectively) every few batches; true on any rank abandons: no value.
  // Throws UserError(kData) when no target counts.
  std::optional<Evaluation> run(Model& model, const Dataset& dataset, std::int64_t samples,
                                World& world, const std::function<bool()>& stop, Stream& stream);

 private:
  Tensor totals_;
  Device& device_;
  EvalUpload upload_;
};

}  // namespace lockstep
