// Making a model is its family's business.
#include "nn/model.h"

#include "nn/model_family.h"

namespace lockstep {

std::unique_ptr<Model> make_model(const ModelConfig& config, const ModelPlan& plan, Arena& arena,
                                  ScratchBytes scratch_bytes) {
  return family_of(config).make(config, plan, arena, scratch_bytes);
}

}  // namespace lockstep
