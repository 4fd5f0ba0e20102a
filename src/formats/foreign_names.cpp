// Names and parameters as the families give them.
#include "formats/foreign_names.h"

#include "formats/foreign_family.h"
#include "nn/model_family.h"

namespace lockstep {

ForeignTensor foreign_tensor(const ModelConfig& config, const Parameter& parameter, Naming naming) {
  return foreign_family(config).tensor(config, parameter, naming);
}

std::vector<Parameter> declared_parameters(const ModelConfig& config) {
  return family_of(config).parameters(config);
}

}  // namespace lockstep
