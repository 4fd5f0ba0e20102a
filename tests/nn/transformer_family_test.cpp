// Derived sizes and slower ones are said; what GPT-2, Llama and Qwen2 call themselves differs.
#include "nn/transformer_family.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

// 8/3 x hidden, rounded up to 64; said among the notes.
TEST(TransformerFamily, GatedModelsHaveADefaultWidth) {
  for (const char* architecture : {"llama", "qwen2"}) {
    ModelConfig config{.architecture = architecture, .heads = 5, .hidden = 200};
    resolve(config, /*tokenizer_vocab=*/256);
    EXPECT_EQ(config.ffn, 576);
    const std::vector<std::string> notes = family_of(config).notes(config);
    ASSERT_EQ(notes.size(), 1u);
    EXPECT_NE(notes[0].find("model.ffn = 576"), std::string::npos) << notes[0];
  }
}

// Sizes that the fastest kernels do not take are said once, and trained all the same.
TEST(TransformerFamily, UnusualSizesAreNoted) {
  const auto notes = [](ModelConfig config) {
    resolve(config, /*tokenizer_vocab=*/256);
    std::string all;
    for (const std::string& note : family_of(config).notes(config)) all += note + "\n";
    return all;
  };
  EXPECT_EQ(notes({}), "");
  EXPECT_NE(notes({.heads = 4, .hidden = 16}).find("head_dim = 4"), std::string::npos);
  EXPECT_NE(notes({.heads = 1, .hidden = 256}).find("head_dim = 256"), std::string::npos);
  EXPECT_NE(notes({.heads = 5, .hidden = 20, .ffn = 37}).find("model.ffn = 37"), std::string::npos);
}

TEST(TransformerFamily, TraitsAreTheSwitchesInEffect) {
  const auto traits = [](const std::string& architecture) {
    ModelConfig config{.architecture = architecture};
    resolve(config, /*tokenizer_vocab=*/256);
    std::string all;
    for (const auto& [key, value] : family_of(config).traits(config))
      all += key + "=" + value + " ";
    return all;
  };
  EXPECT_EQ(traits("gpt2"), "attention_bias=true mlp_bias=true tie_embeddings=true ");
  EXPECT_EQ(traits("llama"), "attention_bias=false mlp_bias=false tie_embeddings=false ");
  EXPECT_EQ(traits("qwen2"), "attention_bias=true mlp_bias=false tie_embeddings=false ");
}

}  // namespace
}  // namespace lockstep
