// Which tensor takes which format.
#include "compress/scheme.h"

#include "nn/model_family.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

WeightFormat format_of(const std::string& scheme, const std::string& name, std::int64_t ffn = 64) {
  ModelConfig config{.architecture = "llama", .layers = 1, .hidden = 64, .ffn = ffn};
  resolve(config, /*tokenizer_vocab=*/256);
  for (const Parameter& parameter : family_of(config).parameters(config)) {
    if (parameter.name == name) return format_under(scheme, WeightFormat::kBF16, parameter);
  }
  ADD_FAILURE() << name;
  return WeightFormat::kF32;
}

const char* const kDown = "model.layers.0.mlp.down_proj.weight";
const char* const kHead = "lm_head.weight";
const char* const kNorm = "model.norm.weight";

TEST(Scheme, NoneLeavesEverythingPlain) {
  for (const char* name : {kDown, kHead, kNorm}) {
    EXPECT_EQ(format_of("none", name), WeightFormat::kBF16) << name;
  }
}

TEST(Scheme, BlocksTakeEveryMatrixWhoseRowsTheyDivide) {
  EXPECT_EQ(format_of("q8_0", kDown), WeightFormat::kQ8_0);
  EXPECT_EQ(format_of("q8_0", kHead), WeightFormat::kQ8_0);
  EXPECT_EQ(format_of("q8_0", kNorm), WeightFormat::kBF16);
  EXPECT_EQ(format_of("q8_0", kDown, /*ffn=*/40), WeightFormat::kF16);
}

TEST(Scheme, Int8RowsTakeLinearMaps) {
  for (const char* scheme : {"w8a16", "w8a8"}) {
    EXPECT_EQ(format_of(scheme, kDown), WeightFormat::kInt8Rows);
    EXPECT_EQ(format_of(scheme, kHead), WeightFormat::kBF16);
    EXPECT_EQ(format_of(scheme, kNorm), WeightFormat::kBF16);
  }
}

}  // namespace
}  // namespace lockstep
