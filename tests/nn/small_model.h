// The shape of a small model of any architecture, as most tests of models and formats want it.
#pragma once

#include "nn/model_config.h"

#include <string>

namespace lockstep::test {

struct SmallSizes {
  std::int64_t layers = 2, heads = 4, hidden = 64, ffn = 96, vocab = 272, seq_len = 48;
};

// Not resolved yet. Queries are grouped in pairs except in GPT-2.
inline ModelConfig small_model(const std::string& architecture, const SmallSizes& sizes = {}) {
  ModelConfig config;
  config.architecture = architecture;
  config.layers = sizes.layers;
  config.heads = sizes.heads;
  config.kv_heads = architecture == "gpt2" ? sizes.heads : sizes.heads / 2;
  config.hidden = sizes.hidden;
  config.ffn = sizes.ffn;
  config.vocab = sizes.vocab;
  config.seq_len = sizes.seq_len;
  return config;
}

}  // namespace lockstep::test
