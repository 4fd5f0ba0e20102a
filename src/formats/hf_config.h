// Hugging Face's config.json, both ways: what it says of a model's shape, and the file that makes
// transformers and vLLM build the same model.
#pragma once

#include "nn/model_config.h"

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep {

struct HfConfig {
  ModelConfig model;               // resolved
  std::string dtype;               // fp32 | bf16 | fp16, of torch_dtype / dtype; "" if not said
  std::string quantization;        // the JSON text of quantization_config, or ""
  std::int32_t bos_token_id = -1;  // -1: none
  std::vector<std::int32_t> eos_token_ids;  // any of them ends a text
};

// Understands the model_types of foreign_families(). Throws UserError(kData) naming `path` and the
// key whose value changes the arithmetic and is not supported (sliding windows, other activations,
// rope types other than default, linear and llama3, inverse-layer scaling, ...).
HfConfig parse_hf_config(const std::string& text, const std::string& path);

// The text of config.json. Both spellings of what transformers 4 and 5 name differently are
// written (rope_theta and rope_parameters, torch_dtype and dtype).
std::string hf_config_text(const HfConfig& config);

}  // namespace lockstep
