// `export --prune`: from a model and calibration text to the smaller model that is exported.
#pragma once

#include "app/model_source.h"
#include "app/session.h"
#include "compress/prune.h"
#include "formats/export_report.h"
#include "nn/model_config.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace lockstep {

// As the command line gives it.
struct PruneRequest {
  std::string what = "none";        // or "ffn=0.3,heads=0.25"
  std::string rank = "wanda";       // of kUnitRanks
  std::string reconstruct = "lsq";  // of kReconstructions
  std::vector<std::string> data;    // --calibration; empty: the run's data.train
  std::int64_t tokens = 1 << 16;    // to calibrate on

  bool asked() const { return what != "none"; }
};

struct PrunedSource {
  ModelConfig config;  // of the smaller model
  PruneOptions options;
  PruningReport report;
  std::unique_ptr<PrunedWeights> weights;  // null until prune_source() has run
};

// What will come out, before the long work; `for_transformers`: with a head count that it takes.
// Throws UserError(kUsage): a request that cannot be met, no calibration data, or some that is
// among the `judged` shards.
PrunedSource plan_pruning(const ModelSource& source, const PruneRequest& request,
                          bool for_transformers, const std::vector<std::string>& judged);

// Collective. Fills in the weights, which live no longer than the source's.
void prune_source(PrunedSource& pruned, const ModelSource& source, std::int64_t tokens,
                  Session& session);

}  // namespace lockstep
