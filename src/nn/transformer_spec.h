// TransformerSpec: what GPT-2, Llama and Qwen2 differ in, as values that one Transformer computes
// by; and the parameters that follow from it and the sizes of a configuration.
#pragma once

#include "nn/model_config.h"
#include "nn/parameters.h"

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep {

enum class NormKind { kLayerNorm, kRmsNorm };

struct TransformerSpec {
  NormKind norm = NormKind::kRmsNorm;
  bool learned_positions = false;  // a table of positions; otherwise q and k are rotated
  bool gated_mlp = true;           // silu(gate) * up; otherwise one map and GELU
  bool qkv_bias = false;
  bool out_bias = false;  // of the attention's output projection
  bool mlp_bias = false;
  bool tied = false;          // the head is the token embedding
  float init_std = 0.0f;      // of matrices, and
  float residual_std = 0.0f;  // of those that write into the residual stream

  // Names before ".weight" and ".bias"; those of a layer follow `layer` and its index.
  std::string token_embedding, position_embedding, final_norm, layer;
  std::string norm1, out, norm2, down;
  std::vector<std::string> qkv;  // one matrix, or q, k and v
  std::vector<std::string> up;   // one matrix, or gate and up
};

// The parameters in the order in which backward finishes their gradients (head, last layer to
// first, embeddings), and where in that order each one stands.
struct TransformerLayout {
  // Indices; -1 where there is none. Several names (q, k, v) stand behind the first one.
  struct Layer {
    std::int64_t norm1 = -1, norm1_bias = -1, qkv = -1, qkv_bias = -1, out = -1, out_bias = -1;
    std::int64_t norm2 = -1, norm2_bias = -1, up = -1, up_bias = -1, down = -1, down_bias = -1;
  };
  std::vector<Parameter> parameters;
  std::vector<Layer> layers;
  std::int64_t token_embedding = -1, position_embedding = -1;
  std::int64_t final_norm = -1, final_norm_bias = -1;
  std::int64_t head = -1;  // the token embedding when tied
};
TransformerLayout lay_out(const ModelConfig& config, const TransformerSpec& spec);

// Columns of packed q, k and v.
inline std::int64_t qkv_width(const ModelConfig& c) {
  return (c.heads + 2 * c.kv_heads) * c.head_dim;
}

}  // namespace lockstep
