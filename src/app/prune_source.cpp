// The request, its calibration text, and one pass over the layers with a progress bar.
#include "app/prune_source.h"

#include "app/progress_bar.h"
#include "app/signals.h"
#include "core/shell_quote.h"
#include "nn/load_weights.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <set>

namespace lockstep {
namespace {

[[noreturn]] void reject(const std::string& what) {
  fail(ExitCode::kUsage,
       "--prune: \"{}\" is not understood; say which shares of what go: ffn=0.3,heads=0.25", what);
}

// "ffn=0.3" and "heads=0.25", either or both, each once.
std::map<std::string, double> shares(const std::string& what) {
  std::map<std::string, double> shares;
  for (const std::string& item : split_list(what)) {
    const std::size_t equals = item.find('=');
    if (equals == std::string::npos) reject(item);
    const std::string name = item.substr(0, equals);
    double share = 0.0;
    const char* end = item.data() + item.size();
    const auto parsed = std::from_chars(item.data() + equals + 1, end, share);
    const bool number = parsed.ec == std::errc() && parsed.ptr == end;
    if (!number || (name != "ffn" && name != "heads") || !shares.emplace(name, share).second) {
      reject(item);
    }
  }
  if (shares.empty()) reject(what);
  return shares;
}

PruneOptions options_of(const ModelConfig& config, const PruneRequest& request,
                        bool for_transformers, std::uint64_t seed) {
  PruneOptions options{.rank = request.rank, .reconstruct = request.reconstruct, .seed = seed};
  for (const auto& [name, share] : shares(request.what)) {
    if (name == "ffn") options.ffn = kept_channels(config.ffn, share);
    if (name == "heads") options.kv_heads = kept_kv_heads(config, share, for_transformers);
  }
  return options;
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
                          bool for_transformers, const std::vector<std::string>& judged) {
  const ModelConfig& config = source.options.model;
  PrunedSource pruned;
  const std::vector<std::string> shards = calibration_shards(source, request);
  pruned.options = options_of(config, request, for_transformers, source.options.run.seed);
  pruned.config = pruned_config(config, pruned.options);
  const Dataset data = open_data(source, shards, "train");
  if (!judged.empty()) require_unseen(data, open_data(source, judged, "val"));
  pruned.report = {.ffn = {config.ffn, pruned.config.ffn},
                   .heads = {config.heads, pruned.config.heads},
                   .kv_heads = {config.kv_heads, pruned.config.kv_heads},
                   .rank = request.rank,
                   .reconstruct = request.reconstruct,
                   .data = shards,
                   .fingerprint = data.fingerprint()};
  return pruned;
}

void prune_source(PrunedSource& pruned, const ModelSource& source, std::int64_t tokens,
                  Session& session) {
  const Dataset data = open_data(source, pruned.report.data, "train");
  const CalibrationPlan plan = CalibrationPlan::make(data, tokens);
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
  pruned.weights =
      prune(calibration, pruned.options, *source.weights, arena, [&](std::int64_t layer) {
        if (world.rank() == 0) bar.show_count(layer + 1, layers, "layers");
      });
}

}  // namespace lockstep
