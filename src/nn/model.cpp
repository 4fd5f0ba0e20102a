// The one place that knows which class implements an architecture.
#include "nn/model.h"

#include "nn/transformer.h"

namespace lockstep {

std::unique_ptr<Model> make_model(const ModelConfig& config, const ModelPlan& plan, Arena& arena,
                                  ScratchBytes scratch_bytes) {
  return std::make_unique<Transformer>(config, plan, arena, scratch_bytes);
}

}  // namespace lockstep
