// The request, its calibration text, and one pass over the layers with a progress bar.
#include "app/prune_source.h"

#include "app/progress_bar.h"
#include "app/signals.h"
#include "compress/prune.h"
#include "nn/load_weights.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>

namespace lockstep {
namespace {

// "ffn=0.3"
double ffn_share(const std::string& what) {
  const std::string prefix = "ffn=";
  double share = 0.0;
  const char* end = what.data() + what.size();
  const bool named = what.rfind(prefix, 0) == 0;
  const auto parsed = std::from_chars(what.data() + (named ? prefix.size() : 0), end, share);
  if (!named || parsed.ec != std::errc() || parsed.ptr != end) {
    fail(ExitCode::kUsage, "--prune: {} is not understood; say which share of what goes: ffn=0.3",
         what);
  }
  return share;
}

std::vector<std::string> calibration_shards(const ModelSource& source,
                                            const PruneRequest& request) {
  const std::vector<std::string>& shards =
      request.data.empty() ? source.options.data.train : request.data;
  if (shards.empty()) {
    fail(ExitCode::kUsage, "--calibration: give shards to prune by; {} names no data.train",
         source.description);
  }
  return shards;
}

Dataset open_data(const ModelSource& source, const std::vector<std::string>& shards,
                  const std::string& split) {
  return Dataset(shards, split, source.judged_seq_len(), source.options.model.vocab,
                 source.options.run.seed);
}

// What a model is judged on must not have been seen by whoever made it.
void require_unseen(const Dataset& calibration, const Dataset& judged) {
  std::set<std::string> seen;
  for (const ShardInfo& shard : calibration.shards()) {
    seen.insert(std::filesystem::weakly_canonical(shard.path).string());
  }
  for (const ShardInfo& shard : judged.shards()) {
    if (!seen.contains(std::filesystem::weakly_canonical(shard.path).string())) continue;
    fail(ExitCode::kUsage,
         "--calibration: {} is among the shards that the export is judged on; give others to one "
         "of --calibration and --data",
         shard.path);
  }
}

}  // namespace

PrunedSource plan_pruning(const ModelSource& source, const PruneRequest& request,
                          const std::vector<std::string>& judged) {
  PrunedSource pruned{.config = source.options.model};
  const std::vector<std::string> shards = calibration_shards(source, request);
  pruned.config.ffn = kept_channels(source.options.model.ffn, ffn_share(request.what));
  const Dataset data = open_data(source, shards, "train");
  if (!judged.empty()) require_unseen(data, open_data(source, judged, "val"));
  pruned.report = {.ffn_before = source.options.model.ffn,
                   .ffn_after = pruned.config.ffn,
                   .rank = request.rank,
                   .reconstruct = request.reconstruct,
                   .data = shards,
                   .fingerprint = data.fingerprint()};
  return pruned;
}

void prune(PrunedSource& pruned, const ModelSource& source, const PruneRequest& request,
           Session& session) {
  const Dataset data = open_data(source, pruned.report.data, "train");
  const CalibrationPlan plan = CalibrationPlan::make(data, request.tokens);
  Arena arena(*session.device);
  Stream stream(*session.device, "prune");
  const auto model = make_model(
      source.options.model,
      {.mode = ModelPlan::Mode::kInference, .batch = plan.sequences, .seq_len = data.seq_len()},
      arena, &session.device->kernels().scratch_bytes);
  World& world = *session.world;
  agree(world,
        [&] { load_weights(model->parameters(), *source.weights, source.description, stream); });
  Calibration calibration(*model, data, plan, world, arena, stream,
                          [] { return stop_requested() != 0; });
  pruned.report.tokens = calibration.tokens();
  ProgressBar bar("pruning");
  const std::int64_t layers = model->layers();
  pruned.weights = prune_ffn(calibration,
                             {.ffn = pruned.config.ffn,
                              .rank = request.rank,
                              .reconstruct = request.reconstruct,
                              .seed = source.options.run.seed},
                             *source.weights, arena, [&](std::int64_t layer) {
                               if (world.rank() == 0) bar.show_count(layer + 1, layers, "layers");
                             });
}

}  // namespace lockstep
