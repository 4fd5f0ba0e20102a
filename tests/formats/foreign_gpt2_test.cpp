// GPT-2's config.json: what each key means, and what an absent one does.
#include "formats/hf_config_sample.h"
#include "nn/transformer_family.h"

namespace lockstep {
namespace {

using nlohmann::json;
using test::kGpt2;
using test::parse;
using test::with;

TEST(ForeignGpt2, ConfigWithItsDefaults) {
  const HfConfig config = parse(kGpt2);
  const ModelConfig& m = config.model;
  EXPECT_EQ(m.architecture, "gpt2");
  EXPECT_EQ(m.layers, 2);
  EXPECT_EQ(m.heads, 3);
  EXPECT_EQ(m.hidden, 48);
  EXPECT_EQ(m.ffn, 192);
  EXPECT_EQ(m.vocab, 97);
  EXPECT_EQ(m.seq_len, 64);
  EXPECT_EQ(m.norm_eps, 1e-5);
  EXPECT_TRUE(transformer_spec(m).tied);
  EXPECT_TRUE(transformer_spec(m).qkv_bias && transformer_spec(m).out_bias &&
              transformer_spec(m).mlp_bias);
  EXPECT_EQ(config.dtype, "");
  EXPECT_TRUE(config.eos_token_ids.empty());
  EXPECT_EQ(parse(with(kGpt2, "n_inner", 104)).model.ffn, 104);
  EXPECT_EQ(parse(with(kGpt2, "n_inner", nullptr)).model.ffn, 192);
  EXPECT_FALSE(transformer_spec(parse(with(kGpt2, "tie_word_embeddings", false)).model).tied);
  json old = with(kGpt2, "n_ctx", 32);
  old.erase("n_positions");
  EXPECT_EQ(parse(old).model.seq_len, 32);
}

}  // namespace
}  // namespace lockstep
