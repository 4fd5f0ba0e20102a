// Llama's config.json: what each key means, and what an absent one does.
#include "formats/hf_config_sample.h"
#include "nn/transformer_family.h"

namespace lockstep {
namespace {

using nlohmann::json;
using test::kLlama;
using test::parse;
using test::with;

TEST(ForeignLlama, ConfigWithTransformersDefaults) {
  const ModelConfig llama = parse(kLlama).model;
  EXPECT_EQ(llama.kv_heads, 2);
  EXPECT_EQ(llama.head_dim, 16);
  EXPECT_EQ(llama.norm_eps, 1e-6);
  EXPECT_EQ(llama.rope_theta, 10000.0);
  EXPECT_FALSE(transformer_spec(llama).tied);
  EXPECT_FALSE(transformer_spec(llama).qkv_bias || transformer_spec(llama).out_bias ||
               transformer_spec(llama).mlp_bias);
  EXPECT_EQ(parse(kLlama).dtype, "bf16");
  json no_groups = kLlama;
  no_groups.erase("num_key_value_heads");
  EXPECT_EQ(parse(no_groups).model.kv_heads, 4);
  const ModelConfig biased =
      parse(with(with(kLlama, "attention_bias", true), "mlp_bias", true)).model;
  EXPECT_TRUE(transformer_spec(biased).qkv_bias && transformer_spec(biased).out_bias &&
              transformer_spec(biased).mlp_bias);
  EXPECT_EQ(parse(with(kLlama, "head_dim", 32)).model.head_dim, 32);
}

}  // namespace
}  // namespace lockstep
