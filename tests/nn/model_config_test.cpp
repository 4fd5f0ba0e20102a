// Presets have their published sizes; impossible shapes are refused by key.
#include "nn/model_config.h"

#include "core/error.h"
#include "kernels/backend.h"
#include "nn/model_family.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

ModelConfig preset(const std::string& name) {
  ModelConfig config;
  config.preset = name;
  resolve(config, /*tokenizer_vocab=*/0);
  return config;
}

TEST(ModelConfig, PresetsHaveThePublishedParameterCounts) {
  EXPECT_EQ(parameter_count(preset("gpt2-124m")), 124439808);
  EXPECT_EQ(parameter_count(preset("gpt2-355m")), 354823168);
  EXPECT_EQ(parameter_count(preset("gpt2-774m")), 774030080);
  EXPECT_EQ(parameter_count(preset("gpt2-1558m")), 1557611200);
  EXPECT_EQ(parameter_count(preset("qwen2.5-0.5b")), 494032768);
  EXPECT_EQ(parameter_count(preset("qwen2.5-1.5b")), 1543714304);
}

TEST(ModelConfig, CountsEqualTheDeclaredParameters) {
  for (const char* name : {"gpt2-tiny", "llama-tiny", "qwen2-tiny", "gpt2-124m", "qwen2.5-0.5b"}) {
    ModelConfig config;
    config.preset = name;
    resolve(config, /*tokenizer_vocab=*/256);
    Arena arena(DeviceKind::kCpu);
    const auto model = make_model(config, {}, arena, &kCpuBackend.kernels->scratch_bytes);
    EXPECT_EQ(model->parameters().logical_count(), parameter_count(config)) << name;
  }
}

std::string refusal(ModelConfig config, std::int64_t tokenizer_vocab = 256) {
  try {
    resolve(config, tokenizer_vocab);
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    return error.what();
  }
  return "";
}

TEST(ModelConfig, RefusesWhatCannotBe) {
  EXPECT_NE(refusal({.preset = "gpt2-124"}).find("did you mean \"gpt2-124m\""), std::string::npos);
  EXPECT_NE(refusal({.architecture = "llama", .preset = "gpt2-124m"}).find("contradicts"),
            std::string::npos);
  EXPECT_NE(refusal({.architecture = "bert"}).find("gpt2, llama or qwen2"), std::string::npos);
  EXPECT_NE(refusal({.heads = 4, .kv_heads = 3}).find("model.kv_heads"), std::string::npos);
  EXPECT_NE(refusal({.heads = 3, .hidden = 128}).find("heads * head_dim"), std::string::npos);
  EXPECT_NE(refusal({.heads = 1, .hidden = 264}).find("head_dim = 264"), std::string::npos);
  EXPECT_NE(refusal({.architecture = "llama", .heads = 4, .hidden = 20}).find("must be even"),
            std::string::npos);
  EXPECT_NE(refusal({.seq_len = (1 << 24) + 1}).find("model.seq_len"), std::string::npos);
  EXPECT_NE(refusal({.vocab = 100}).find("model.vocab"), std::string::npos);
  EXPECT_NE(refusal({}, /*tokenizer_vocab=*/0).find("model.vocab"), std::string::npos);
  EXPECT_EQ(refusal({}), "");
}

TEST(ModelConfig, FlopsOfGpt2) {
  // 6 * (12 * 12 * 768^2 + 50257 * 768) + 7 * 12 * 1024 * 768
  EXPECT_DOUBLE_EQ(flops_per_token(preset("gpt2-124m")),
                   6.0 * (12.0 * 12 * 768 * 768 + 50257.0 * 768) + 7.0 * 12 * 1024 * 768);
}

}  // namespace
}  // namespace lockstep
