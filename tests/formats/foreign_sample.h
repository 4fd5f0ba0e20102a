// Small shapes of every family, and a source of foreign tensors seen under our names.
#pragma once

#include "formats/foreign_model.h"
#include "formats/memory_source.h"
#include "nn/small_model.h"

#include <memory>
#include <string>
#include <utility>

namespace lockstep::test {

inline ModelConfig small_shape(const std::string& architecture) {
  ModelConfig config =
      small_model(architecture, {.heads = 2, .hidden = 16, .ffn = 24, .vocab = 40, .seq_len = 12});
  config.attention_bias = architecture == "llama" ? "true" : "";
  resolve(config, /*tokenizer_vocab=*/0);
  return config;
}

inline std::unique_ptr<WeightSource> renamed(MemorySource source, const ModelConfig& config,
                                             bool gguf = false) {
  return under_our_names(std::make_unique<MemorySource>(std::move(source)), config, gguf, "dir");
}

}  // namespace lockstep::test
