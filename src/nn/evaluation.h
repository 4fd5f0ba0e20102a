// Evaluation: what the totals of Model::evaluate say of a model, once all targets are judged.
#pragma once

#include <cmath>
#include <cstdint>

namespace lockstep {

struct Evaluation {
  double loss = 0.0;        // nats per token
  double accuracy = 0.0;    // share of targets that are the most likely token
  std::int64_t tokens = 0;  // targets judged
  double perplexity() const { return std::exp(loss); }
};

}  // namespace lockstep
