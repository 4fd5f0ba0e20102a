// Qwen2's config.json: its own biases, and windows that are never used.
#include "formats/hf_config_sample.h"
#include "nn/transformer_family.h"

namespace lockstep {
namespace {

using nlohmann::json;
using test::expect_refused;
using test::parse;
using test::qwen2;
using test::with;

TEST(ForeignQwen2, ConfigWithTransformersDefaults) {
  const ModelConfig qwen = parse(with(qwen2(), "sliding_window", 4096)).model;
  EXPECT_TRUE(transformer_spec(qwen).qkv_bias);
  EXPECT_FALSE(transformer_spec(qwen).out_bias || transformer_spec(qwen).mlp_bias ||
               transformer_spec(qwen).tied);
  EXPECT_EQ(qwen.rope_theta, 10000.0);
  expect_refused(with(qwen2(), "use_sliding_window", true), "key 'use_sliding_window'");
}

}  // namespace
}  // namespace lockstep
