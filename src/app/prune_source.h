// `export --prune`: from a model and calibration text to the smaller model that is exported.
#pragma once

#include "app/model_source.h"
#include "app/session.h"
#include "compress/pruned_weights.h"
#include "formats/export_report.h"
#include "nn/model_config.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace lockstep {

// As the command line gives it.
struct PruneRequest {
  std::string what;                 // "ffn=0.3", or "" for nothing
  std::string rank = "wanda";       // of kChannelRanks
  std::string reconstruct = "lsq";  // of kReconstructions
  std::vector<std::string> data;    // --calibration; empty: the run's data.train
  std::int64_t tokens = 1 << 16;    // to calibrate on

  bool asked() const { return !what.empty(); }
};

struct PrunedSource {
  ModelConfig config;  // of the smaller model
  PruningReport report;
  std::unique_ptr<PrunedWeights> weights;  // null until prune() has run
};

// What will come out, before the long work. Throws UserError(kUsage): a request that cannot be met,
// no calibration data, or some that is among the `judged` shards.
PrunedSource plan_pruning(const ModelSource& source, const PruneRequest& request,
                          const std::vector<std::string>& judged);

// Collective. Fills in the weights, which live no longer than the source's.
void prune(PrunedSource& pruned, const ModelSource& source, const PruneRequest& request,
           Session& session);

}  // namespace lockstep
