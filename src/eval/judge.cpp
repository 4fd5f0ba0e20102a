// A model of the judged shape on an arena of its own, its weights, and one pass over the data.
#include "eval/judge.h"

#include "comm/agree.h"
#include "core/error.h"
#include "eval/evaluate.h"
#include "nn/load_weights.h"

#include <cmath>
#include <utility>

namespace lockstep {

Judge::Judge(Device& device, World& world, Dataset data, const JudgeOptions& options,
             std::function<bool()> stop)
    : device_(device),
      world_(world),
      data_(std::move(data)),
      options_(options),
      stop_(std::move(stop)) {}

std::optional<Evaluation> Judge::run(const JudgedModel& judged) {
  ModelPlan plan;
  plan.mode = ModelPlan::Mode::kInference;
  plan.dtype = judged.dtype;
  plan.batch = options_.batch;
  plan.seq_len = seq_len();
  plan.int8_activations = judged.int8_activations;
  Arena arena(device_);
  Stream stream(device_, "judge");
  const auto model = make_model(judged.config, plan, arena, &device_.kernels().scratch_bytes);
  agree(world_, [&] { load_weights(model->parameters(), judged.weights, judged.name, stream); });
  Evaluator evaluator(EvalBuffers(arena, plan.batch, plan.seq_len), device_);
  auto result = evaluator.run(*model, data_, options_.samples, world_, stop_, stream);
  if (result && !std::isfinite(result->loss)) {
    fail_together(ExitCode::kData,
                  "{}: its loss is not finite although its weights are: its values grow beyond {}",
                  judged.name, name_of(judged.dtype));
  }
  return result;
}

}  // namespace lockstep
