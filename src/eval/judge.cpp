// A model of the judged shape on an arena of its own, its weights, and one pass over the data.
#include "eval/judge.h"

#include "comm/agree.h"
#include "core/error.h"
#include "eval/comparer.h"
#include "eval/evaluate.h"
#include "nn/load_weights.h"

#include <cmath>
#include <utility>

namespace lockstep {
namespace {

void require_finite(const Evaluation& result, const JudgedModel& judged) {
  if (std::isfinite(result.loss)) return;
  fail_together(ExitCode::kData,
                "{}: its loss is not finite although its weights are: its values grow beyond {}",
                judged.name, name_of(judged.dtype));
}

}  // namespace

Judge::Judge(Device& device, World& world, Dataset data, const JudgeOptions& options,
             std::function<bool()> stop)
    : device_(device),
      world_(world),
      data_(std::move(data)),
      options_(options),
      stop_(std::move(stop)) {}

std::unique_ptr<Model> Judge::load(const JudgedModel& judged, Arena& arena, Stream& stream) {
  ModelPlan plan;
  plan.mode = ModelPlan::Mode::kInference;
  plan.dtype = judged.dtype;
  plan.batch = options_.batch;
  plan.seq_len = seq_len();
  plan.int8_activations = judged.int8_activations;
  auto model = make_model(judged.config, plan, arena, &device_.kernels().scratch_bytes);
  agree(world_, [&] { load_weights(model->parameters(), judged.weights, judged.name, stream); });
  return model;
}

std::optional<Evaluation> Judge::run(const JudgedModel& judged) {
  Arena arena(device_);
  Stream stream(device_, "judge");
  const auto model = load(judged, arena, stream);
  Evaluator evaluator(EvalBuffers(arena, options_.batch, seq_len()), device_);
  const auto result = evaluator.run(*model, data_, options_.samples, world_, stop_, stream);
  if (result) require_finite(*result, judged);
  return result;
}

std::optional<Comparison> Judge::compare(const JudgedModel& judged, const JudgedModel& reference) {
  Arena arena(device_);
  Stream stream(device_, "judge");
  const auto model = load(judged, arena, stream);
  const auto other = load(reference, arena, stream);
  Comparer comparer(arena, device_, options_.batch, seq_len());
  const auto result = comparer.run(*model, *other, data_, options_.samples, world_, stop_, stream);
  if (!result) return result;
  require_finite(result->reference, reference);
  require_finite(result->model, judged);
  return result;
}

}  // namespace lockstep
