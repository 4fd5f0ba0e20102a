// Small shapes of every family, and a source of foreign tensors seen under our names.
#pragma once

#include "formats/foreign_model.h"
#include "formats/memory_source.h"

#include <memory>
#include <string>
#include <utility>

namespace lockstep::test {

inline ModelConfig small_shape(const std::string& architecture) {
  ModelConfig config;
  config.architecture = architecture;
  config.layers = 2;
  config.heads = 2;
  config.kv_heads = architecture == "gpt2" ? 2 : 1;
  config.hidden = 16;
  config.ffn = 24;
  config.vocab = 40;
  config.seq_len = 12;
  config.attention_bias = architecture == "llama" ? "true" : "";
  resolve(config, /*tokenizer_vocab=*/0);
  return config;
}

inline std::unique_ptr<WeightSource> renamed(MemorySource source, const ModelConfig& config,
                                             bool gguf = false) {
  return under_our_names(std::make_unique<MemorySource>(std::move(source)), config, gguf, "dir");
}

}  // namespace lockstep::test
