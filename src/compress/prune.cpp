// The layers in order: the dense output, the blocks of the pruned model, and the output that its
// next layer reads.
#include "compress/prune.h"

#include "compress/block_pruner.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <utility>

namespace lockstep {
namespace {

class LayerPruner {
 public:
  LayerPruner(Calibration& calibration, const PruneOptions& options, PrunedWeights& result,
              Arena& arena)
      : calibration_(calibration),
        options_(options),
        model_(calibration.model()),
        blocks_(calibration, options, widest(model_.config()), result, arena) {
    dense_ = pruned_ = calibration.enter();
  }

  void prune(std::int64_t layer) {
    const UnitBlock ffn = model_.feed_forward(layer);
    const std::string middle = model_.parameters()[ffn.in.front()].name;
    Residuals dense_middle(dense_.size());
    dense_ = calibration_.run(layer, dense_,
                              [&](std::size_t chunk, std::span<const Parameter> weights,
                                  const Tensor&, const Tensor& residual) {
                                if (options_.kv_heads == 0 || weights[0].name != middle) return;
                                calibration_.fetch(residual, dense_middle[chunk]);
                              });
    if (options_.kv_heads > 0) {
      blocks_.prune(layer, model_.attention(layer), options_.kv_heads, pruned_,
                    std::move(dense_middle), {middle});
    }
    if (options_.ffn > 0) blocks_.prune(layer, ffn, options_.ffn, pruned_, dense_, {});
    pruned_ = calibration_.run(layer, pruned_, {});
  }

 private:
  static std::int64_t widest(const ModelConfig& config) {
    return std::max(config.ffn, config.heads * config.head_dim);
  }

  Calibration& calibration_;
  const PruneOptions& options_;
  Model& model_;
  BlockPruner blocks_;
  Residuals dense_, pruned_;  // inputs of the next layer
};

[[noreturn]] void reject_share(const char* what, double share, std::int64_t all, std::int64_t kept,
                               const std::string& steps) {
  fail(ExitCode::kUsage,
       "--prune: {}={} leaves {} of {}{}; give a share that takes some and leaves some", what,
       share, kept, all, steps);
}

}  // namespace

std::int64_t kept_channels(std::int64_t ffn, double share) {
  const std::int64_t unit = ffn >= 256 ? 32 : 8;
  const auto units = std::llround(static_cast<double>(ffn) * (1.0 - share) / unit);
  const std::int64_t kept = units * unit;
  if (!(share > 0.0 && share < 1.0) || kept <= 0 || kept >= ffn) {
    reject_share("ffn", share, ffn, std::clamp<std::int64_t>(kept, 0, ffn),
                 fmt::format(", in steps of {}", unit));
  }
  return kept;
}

std::int64_t kept_kv_heads(const ModelConfig& config, double share, bool divides_hidden) {
  if (config.architecture == "gpt2") {
    fail(
        ExitCode::kUsage,
        "--prune: heads of a gpt2 cannot go, since no program loads a gpt2 whose heads do not fill "
        "its width; prune its ffn, or train a llama");
  }
  if (config.architecture == "qwen2" && divides_hidden) {
    fail(ExitCode::kUsage,
         "--prune: heads of a qwen2 can only go with --format=gguf, where it is written as the "
         "llama "
         "that it becomes; transformers takes no qwen2 whose heads do not fill its width");
  }
  const std::int64_t group = config.heads / config.kv_heads;
  const double wanted = static_cast<double>(config.kv_heads) * (1.0 - share);
  std::int64_t best = config.kv_heads;
  for (std::int64_t kept = config.kv_heads; kept > 0; --kept) {
    if (divides_hidden && config.hidden % (kept * group) != 0) continue;
    if (std::fabs(kept - wanted) < std::fabs(best - wanted)) best = kept;
  }
  if (!(share > 0.0 && share < 1.0) || best == config.kv_heads) {
    reject_share("heads", share, config.heads, config.heads,
                 fmt::format(", in steps of {}{}", group,
                             divides_hidden ? " and as numbers that divide model.hidden" : ""));
  }
  return best;
}

ModelConfig pruned_config(ModelConfig config, const PruneOptions& options) {
  if (options.ffn > 0) config.ffn = options.ffn;
  if (options.kv_heads > 0) {
    config.heads = config.heads / config.kv_heads * options.kv_heads;
    config.kv_heads = options.kv_heads;
  }
  return config;
}

std::unique_ptr<PrunedWeights> prune(Calibration& calibration, const PruneOptions& options,
                                     WeightSource& original, Arena& arena,
                                     const std::function<void(std::int64_t)>& layer_done) {
  const ModelConfig& config = calibration.model().config();
  CHECK(options.ffn >= 0 && options.ffn < config.ffn, "{} of {}", options.ffn, config.ffn);
  CHECK(options.kv_heads >= 0 && options.kv_heads < config.kv_heads, "{} of {}", options.kv_heads,
        config.kv_heads);
  auto result = std::make_unique<PrunedWeights>(original);
  LayerPruner pruner(calibration, options, *result, arena);
  for (std::int64_t layer = 0; layer < config.layers; ++layer) {
    pruner.prune(layer);
    if (layer_done) layer_done(layer);
  }
  return result;
}

}  // namespace lockstep
