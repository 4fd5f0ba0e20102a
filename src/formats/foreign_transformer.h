// What the files of GPT-2, Llama and Qwen2 have in common: GGUF's names and hyperparameters follow
// from the TransformerSpec.
#pragma once

#include "formats/foreign_family.h"
#include "nn/transformer_family.h"

namespace lockstep {

class ForeignTransformer : public ForeignFamily {
 public:
  ForeignTensor tensor(const ModelConfig& config, const Parameter& parameter,
                       Naming naming) const override;
  bool is_buffer(const ModelConfig& config, const std::string& name) const override;
  std::string repeats(const ModelConfig& config, const std::string& name) const override;
  ModelConfig gguf_config(const ModelConfig& config) const override;
  void add_hyperparameters(GgufMetadata& metadata, const ModelConfig& config) const override;
  void read_gguf(ModelConfig& config, const GgufKeys& keys) const override;

 protected:
  // Of the matrices of linear maps in Hugging Face's files, and of q and k in GGUF.
  virtual RowLayout hugging_face_layout() const { return RowLayout::kSame; }
  virtual RowLayout gguf_query_layout() const { return RowLayout::kSame; }
};

// The keys that Llama and Qwen2 have in common; but for the biases and num_key_value_heads.
void read_llama_config(ModelConfig& config, const JsonKeys& keys);
void write_llama_config(JsonMembers& out, const ModelConfig& config);
// Refuses biases that Hugging Face's class always has, or never.
void require_own_biases(const ModelConfig& config);

}  // namespace lockstep
