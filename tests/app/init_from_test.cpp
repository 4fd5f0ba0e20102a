// What a run takes over from the model that its weights come from, and what cannot be otherwise.
#include "app/init_from.h"

#include "app/support.h"
#include "nn/small_model.h"
#include "nn/transformer_family.h"

namespace lockstep {
namespace {

using test::catch_error;
using test::Caught;

ModelConfig source(const std::string& architecture) {
  ModelConfig config = test::small_model(
      architecture,
      {.layers = 3, .heads = 6, .hidden = 96, .ffn = 200, .vocab = 300, .seq_len = 128});
  if (architecture != "gpt2") config.kv_heads = 2;
  config.head_dim = 16;
  config.norm_eps = 3e-6;
  config.rope_theta = 5e5;
  config.rope_scaling = architecture == "gpt2" ? "" : "llama3:32,1,4,8192";
  config.tie_embeddings = architecture == "llama" ? "true" : "";
  resolve(config, /*tokenizer_vocab=*/0);
  return config;
}

TEST(InitFrom, FillsWhatIsLeftOpen) {
  const ModelConfig from = source("llama");
  ModelConfig model;
  inherit_model(model, from, "dir", /*tokenizer_vocab=*/256);
  resolve(model, /*tokenizer_vocab=*/256);
  EXPECT_EQ(parameter_count(model), parameter_count(from));
  EXPECT_EQ(model.architecture, "llama");
  EXPECT_EQ(model.kv_heads, 2);
  EXPECT_EQ(model.vocab, 300);
  EXPECT_EQ(model.seq_len, 128);
  EXPECT_EQ(model.norm_eps, 3e-6);
  EXPECT_EQ(model.rope_theta, 5e5);
  EXPECT_EQ(model.rope_scaling, "llama3:32,1,4,8192");
  EXPECT_TRUE(transformer_spec(model).tied);
}

TEST(InitFrom, WhatIsSetStaysWhereTheWeightsAllowIt) {
  ModelConfig model;
  model.seq_len = 4096;
  model.rope_theta = 1e6;
  model.rope_scaling = "linear:4";
  model.norm_eps = 1e-5;
  model.tie_embeddings = "true";
  inherit_model(model, source("llama"), "dir", /*tokenizer_vocab=*/0);
  EXPECT_EQ(model.seq_len, 4096);
  EXPECT_EQ(model.rope_theta, 1e6);
  EXPECT_EQ(model.rope_scaling, "linear:4");
  EXPECT_EQ(model.norm_eps, 1e-5);
  ModelConfig shorter;
  shorter.seq_len = 64;
  inherit_model(shorter, source("gpt2"), "dir", /*tokenizer_vocab=*/0);
  EXPECT_EQ(shorter.seq_len, 64);
}

Caught refusal(ModelConfig model, const std::string& architecture = "llama",
               std::int64_t tokenizer_vocab = 0) {
  return catch_error([&] { inherit_model(model, source(architecture), "dir", tokenizer_vocab); });
}

TEST(InitFrom, ASizeThatTheWeightsDoNotHaveIsNamed) {
  const auto expect = [](const ModelConfig& model, const std::string& message) {
    const Caught caught = refusal(model);
    EXPECT_EQ(caught.code, ExitCode::kConfig);
    EXPECT_EQ(caught.message.find(message), 0u) << caught.message;
  };
  expect({.architecture = "qwen2"},
         "model.architecture = qwen2, but the weights of model.init_from = dir have llama; leave "
         "model.architecture out");
  expect({.layers = 2}, "model.layers = 2, but the weights of model.init_from = dir have 3;");
  expect({.heads = 4}, "model.heads = 4");
  expect({.kv_heads = 3}, "model.kv_heads = 3");
  expect({.head_dim = 32}, "model.head_dim = 32");
  expect({.hidden = 64}, "model.hidden = 64");
  expect({.ffn = 208}, "model.ffn = 208");
  expect({.vocab = 301}, "model.vocab = 301");
  expect({.attention_bias = "true"}, "model.attention_bias = true");
  expect({.mlp_bias = "true"}, "model.mlp_bias = true");
  expect({.tie_embeddings = "false"}, "model.tie_embeddings = false");
}

TEST(InitFrom, LearnedPositionsAndVocabularyCannotGrow) {
  ModelConfig longer;
  longer.seq_len = 129;
  Caught caught = refusal(longer, "gpt2");
  EXPECT_EQ(caught.code, ExitCode::kConfig);
  EXPECT_EQ(caught.message.find("model.seq_len = 129, but model.init_from = dir has learned 128 "),
            0u)
      << caught.message;
  caught = refusal({}, "gpt2", /*tokenizer_vocab=*/301);
  EXPECT_EQ(caught.code, ExitCode::kConfig);
  EXPECT_EQ(caught.message.find("the tokenizer of the data has 301 entries, but model.init_from = "
                                "dir has rows for 300;"),
            0u)
      << caught.message;
}

}  // namespace
}  // namespace lockstep
