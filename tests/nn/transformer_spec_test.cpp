// The layout: every index points at the parameter it names, in the order that backward wants.
#include "nn/transformer_family.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

TransformerLayout layout_of(const std::string& architecture, ModelConfig config = {}) {
  config.architecture = architecture;
  config.layers = 3;
  resolve(config, /*tokenizer_vocab=*/256);
  return lay_out(config, transformer_spec(config));
}

std::string name(const TransformerLayout& layout, std::int64_t index) {
  return index < 0 ? "" : layout.parameters[static_cast<std::size_t>(index)].name;
}

TEST(TransformerSpec, IndicesNameTheirParameters) {
  const TransformerLayout gpt2 = layout_of("gpt2");
  EXPECT_EQ(name(gpt2, gpt2.layers[1].qkv), "transformer.h.1.attn.c_attn.weight");
  EXPECT_EQ(name(gpt2, gpt2.layers[2].down_bias), "transformer.h.2.mlp.c_proj.bias");
  EXPECT_EQ(name(gpt2, gpt2.position_embedding), "transformer.wpe.weight");
  EXPECT_EQ(gpt2.head, gpt2.token_embedding);
  const TransformerLayout qwen2 = layout_of("qwen2");
  EXPECT_EQ(name(qwen2, qwen2.layers[0].qkv_bias), "model.layers.0.self_attn.q_proj.bias");
  EXPECT_EQ(qwen2.layers[0].out_bias, -1);
  EXPECT_EQ(qwen2.position_embedding, -1);
  EXPECT_EQ(name(qwen2, qwen2.head), "lm_head.weight");
}

// Backward says "final up to here" by a layer's first parameter, its down projection.
TEST(TransformerSpec, LayersStandFromLastToFirst) {
  for (const char* architecture : {"gpt2", "llama", "qwen2"}) {
    const TransformerLayout layout = layout_of(architecture, {.mlp_bias = "true"});
    for (std::size_t l = 0; l < 3; ++l) {
      const TransformerLayout::Layer& layer = layout.layers[l];
      EXPECT_LT(layer.down, layer.down_bias);
      EXPECT_LT(layer.down_bias, layer.up);
      EXPECT_LT(layer.up, layer.norm2);
      EXPECT_LT(layer.norm2, layer.out);
      EXPECT_LT(layer.out, layer.qkv);
      EXPECT_LT(layer.qkv, layer.norm1);
      if (l == 0) continue;
      EXPECT_LT(layer.norm1, layout.layers[l - 1].down);
    }
    EXPECT_LT(layout.layers[0].norm1, layout.token_embedding);
    EXPECT_LT(layout.final_norm, layout.layers[2].down);
  }
}

TEST(TransformerSpec, JoinedMapsStandSideBySide) {
  const TransformerLayout layout = layout_of("llama");
  const auto first = static_cast<std::size_t>(layout.layers[0].qkv);
  EXPECT_FALSE(layout.parameters[first].joined);
  EXPECT_TRUE(layout.parameters[first + 1].joined && layout.parameters[first + 2].joined);
  EXPECT_TRUE(layout.parameters[first + 2].name.ends_with("v_proj.weight"));
}

}  // namespace
}  // namespace lockstep
