// The list of architectures. A new one is declared and entered here, and nowhere else in this room.
#include "nn/model_family.h"

namespace lockstep {

const ModelFamily& gpt2_family();
const ModelFamily& llama_family();
const ModelFamily& qwen2_family();

const std::vector<const ModelFamily*>& model_families() {
  static const std::vector<const ModelFamily*> families = {
      &gpt2_family(),
      &llama_family(),
      &qwen2_family(),
  };
  return families;
}

}  // namespace lockstep
