// Evaluation: what the totals of Model::evaluate say of a model, once all targets are judged.
// Comparison: what judging two models on the same tokens says of their difference.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

namespace lockstep {

struct Evaluation {
  double loss = 0.0;        // nats per token
  double accuracy = 0.0;    // share of targets that are the most likely token
  std::int64_t tokens = 0;  // targets judged
  double perplexity() const { return std::exp(loss); }
};

// A mean, and how far from it the true one may be: half the width of the 95 % interval; not a
// number with fewer than two sequences.
struct Estimate {
  double value = 0.0;
  double within = 0.0;
  double low() const { return value - within; }
  double high() const { return value + within; }
};

struct Comparison {
  Evaluation model, reference;
  Estimate accuracy_change;     // the model's less the reference's, as a share of the targets
  Estimate loss_change;         // the same in nats
  Estimate divergence;          // mean of sum q (log q - log p), q the reference's: nats
  double divergence_999 = 0.0;  // 99.9 % of the targets diverge at most so much
  double same_top = 0.0;        // share of targets where both have the same most likely token
  double perplexity_ratio() const { return std::exp(loss_change.value); }
};

// All of it but the two evaluations, as the members of a JSON object: what `eval --reference
// --json` and export.json tell.
std::string comparison_json(const Comparison& comparison);

}  // namespace lockstep
