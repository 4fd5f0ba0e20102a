// Rotary factors: only llama3 scaling has them, from 1 for fast frequencies to its factor.
#include "formats/rope_factors.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

std::vector<float> factors(const std::string& scaling) {
  ModelConfig config;
  config.architecture = "llama";
  config.layers = 1;
  config.heads = 1;
  config.hidden = config.ffn = 64;
  config.vocab = 64;
  config.seq_len = 128;
  config.rope_scaling = scaling;
  resolve(config, 0);
  return rope_factors(config);
}

TEST(RopeFactors, OnlyLlama3HasThem) {
  EXPECT_TRUE(factors("").empty());
  EXPECT_TRUE(factors("linear:2").empty());
  const std::vector<float> scaled = factors("llama3:8,1,4,32");
  ASSERT_EQ(scaled.size(), 32u);
  EXPECT_EQ(scaled.front(), 1.0f);
  EXPECT_FLOAT_EQ(scaled.back(), 8.0f);
  for (std::size_t i = 1; i < scaled.size(); ++i) EXPECT_GE(scaled[i], 0.999f * scaled[i - 1]);
}

}  // namespace
}  // namespace lockstep
