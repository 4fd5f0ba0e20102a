// A bound that is not known is null.
#include "nn/evaluation.h"

#include <nlohmann/json.hpp>

namespace lockstep {
namespace {

using Json = nlohmann::ordered_json;

Json interval(double value, double low, double high) {
  return {{"value", value}, {"low", low}, {"high", high}};
}

Json interval(const Estimate& estimate) {
  return interval(estimate.value, estimate.low(), estimate.high());
}

}  // namespace

std::string comparison_json(const Comparison& c) {
  Json out;
  out["loss_change"] = interval(c.loss_change);
  out["accuracy_change"] = interval(c.accuracy_change);
  out["perplexity_ratio"] =
      interval(c.perplexity_ratio(), std::exp(c.loss_change.low()), std::exp(c.loss_change.high()));
  out["divergence"] = interval(c.divergence);
  out["divergence_999"] = c.divergence_999;
  out["same_top"] = c.same_top;
  return out.dump();
}

}  // namespace lockstep
