// GGUF files opened as models: our own exports come back with the same shape and weights; foreign
// files are understood or refused by key and tensor.
#include "formats/gguf_model_fixture.h"

namespace lockstep {
namespace {

using testing::expect_data_error;
using testing::export_small;
using testing::GgufModelTest;
using testing::Parts;
using testing::read_all;
using testing::ScratchDirectory;
using testing::small_config;
using testing::spill;
using testing::value_of;

TEST_F(GgufModelTest, ExportsComeBack) {
  for (const std::string arch : {"gpt2", "llama", "qwen2"}) {
    for (const GgufType type : {GgufType::kF32, GgufType::kF16, GgufType::kBF16, GgufType::kQ8_0}) {
      SCOPED_TRACE(arch + " " + std::string(name_of(type)));
      std::filesystem::remove(path_);
      ModelConfig config = small_config(arch);
      export_small(path_, config, type, tokenizer_);
      resolve(config, 0);
      ASSERT_TRUE(is_gguf(path_));
      const ForeignModel model = open_gguf(path_);
      EXPECT_EQ(model.config.architecture, arch);
      EXPECT_EQ(parameter_count(model.config), parameter_count(config));
      EXPECT_EQ(model.config.seq_len, config.seq_len);
      EXPECT_EQ(model.config.norm_eps, config.norm_eps);
      EXPECT_TRUE(arch == "gpt2" || model.config.rope_theta == config.rope_theta);
      EXPECT_EQ(model.config.kv_heads, config.kv_heads);
      EXPECT_EQ(model.dtype, type == GgufType::kBF16  ? "bf16"
                             : type == GgufType::kF16 ? "fp16"
                                                      : "fp32");
      for (const Parameter& parameter : declared_parameters(config)) {
        const std::vector<float> values = read_all(*model.weights, parameter.name);
        for (std::size_t i = 0; i < values.size(); ++i) {
          const double wanted = value_of(parameter.name, static_cast<std::int64_t>(i));
          ASSERT_NEAR(values[i], wanted, type == GgufType::kF32 ? 0.0 : 0.0045)
              << parameter.name << " " << i;
        }
      }
    }
  }
}

TEST_F(GgufModelTest, WhatIsWrittenAsLlamaComesBackAsOne) {
  ModelConfig config = small_config("qwen2");
  config.head_dim = 8;
  config.rope_scaling = "llama3:4,1,3,128";
  export_small(path_, config, GgufType::kF32, tokenizer_);
  const ForeignModel model = open_gguf(path_);
  EXPECT_EQ(model.config.architecture, "llama");
  EXPECT_EQ(model.config.head_dim, 8);
  EXPECT_EQ(model.config.rope_scaling, "llama3:4,1,3,128");
  for (const char* name : {"q_proj.bias", "k_proj.bias", "k_proj.weight"}) {
    const std::string ours = fmt::format("model.layers.1.self_attn.{}", name);
    const std::vector<float> values = read_all(*model.weights, ours);
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(values[i], value_of(ours, static_cast<std::int64_t>(i))) << ours << " " << i;
    }
  }
  for (const float zero : read_all(*model.weights, "model.layers.0.self_attn.o_proj.bias")) {
    EXPECT_EQ(zero, 0.0f);
  }
}

TEST_F(GgufModelTest, Tokenizers) {
  Parts file = parts("llama");
  file.write(path_);
  ForeignModel model = open_gguf(path_);
  EXPECT_EQ(model.tokenizer_error, "");
  ASSERT_NE(model.tokenizer, nullptr);
  EXPECT_EQ(model.tokenizer->vocab_size(), 261);
  std::vector<std::int32_t> ids;
  model.tokenizer->encode("abcab", ids);
  EXPECT_EQ(ids, (std::vector<std::int32_t>{257, 256}));
  EXPECT_EQ(model.tokenizer->end_of_text(), 260);
  EXPECT_EQ(model.tokenizer->table().chat.standard, "{{ messages }}");
  ASSERT_EQ(model.tokenizer->table().chat.named.size(), 1U);
  EXPECT_EQ(model.tokenizer->table().chat.named[0].first, "tool_use");

  const auto expect_none = [&](const Parts& changed, const std::string& why) {
    changed.write(path_);
    const ForeignModel opened = open_gguf(path_);
    EXPECT_EQ(opened.tokenizer, nullptr);
    EXPECT_NE(opened.tokenizer_error.find(why), std::string::npos) << opened.tokenizer_error;
    EXPECT_EQ(opened.tokenizer_error.empty(), why.empty());
  };
  Parts changed = file;
  changed.set("tokenizer.ggml.pre", std::string("gemma4"));
  expect_none(changed, "key tokenizer.ggml.pre = 'gemma4' is not known");
  changed.set("tokenizer.ggml.pre", std::string("smol"));
  expect_none(changed, "did you mean 'smollm'?");
  changed = file;
  changed.set("tokenizer.ggml.model", std::string("llama"));
  expect_none(changed, "key tokenizer.ggml.model = 'llama' is not supported");
  changed.remove("tokenizer.ggml.model");
  expect_none(changed, "");
  changed = file;
  changed.remove("tokenizer.ggml.tokens");
  expect_none(changed, "key tokenizer.ggml.tokens is missing");
  changed = file;
  changed.set("tokenizer.ggml.token_type", std::vector<std::int32_t>{1});
  expect_none(changed, "token_type has 1 items for 272 tokens");
  changed = file;
  changed.set("tokenizer.ggml.merges", std::vector<std::string>{"a b", "abc"});
  expect_none(changed, "item 1 of key tokenizer.ggml.merges is no pair");
  changed.set("tokenizer.ggml.merges", std::vector<std::string>{""});
  expect_none(changed, "item 0 of key tokenizer.ggml.merges is no pair");
  changed.remove("tokenizer.ggml.merges");
  expect_none(changed, "key tokenizer.ggml.merges is missing");
}

TEST_F(GgufModelTest, BytesComeBackAsBytes) {
  ModelConfig config = small_config("gpt2");
  config.vocab = 258;
  const std::unique_ptr<Tokenizer> bytes = open_tokenizer("byte");
  export_small(path_, config, GgufType::kF16, *bytes);
  const ForeignModel model = open_gguf(path_);
  ASSERT_NE(model.tokenizer, nullptr) << model.tokenizer_error;
  EXPECT_EQ(model.tokenizer->name(), "byte");
}

TEST_F(GgufModelTest, ShapesThatDoNotFit) {
  Parts file = parts("llama");
  file.set("llama.attention.head_count_kv", std::uint32_t{3});
  expect_refused(file, "model.kv_heads = 3 must divide model.heads = 4");
  file = parts("llama");
  file.set("llama.block_count", std::uint32_t{3});
  expect_refused(file, "tensor blk.2.");
  file.set("llama.block_count", std::uint32_t{1000000000});
  expect_refused(file, "model.layers = 1000000000 is too large");
  file.set("llama.block_count", std::uint32_t{1});
  expect_refused(file, "tensor blk.1.attn_k.weight has no place");
  file = parts("llama");
  file.set("llama.feed_forward_length", std::uint32_t{104});
  expect_refused(file, "has shape [64, 96], the configuration asks for [64, 104]");
  file = parts("llama");
  file.remove_tensor("token_embd.weight");
  expect_refused(file, "tensor token_embd.weight is missing");
  file.add_tensor("token_embd.weight", {272}, 1.0f);
  expect_refused(file, "tensor token_embd.weight is missing or no matrix");
  file = parts("llama");
  file.remove_tensor("blk.1.ffn_up.weight");
  expect_refused(file, "tensor blk.1.ffn_up.weight is missing");
  file = parts("llama");
  file.remove_tensor("token_embd.weight");
  file.add_tensor("token_embd.weight", {264, 64}, 1.0f);
  file.remove_tensor("output.weight");
  expect_refused(file, "tokenizer.ggml.tokens has 272 items, tensor token_embd.weight 264 rows");
}

TEST(GgufModel, WhatIsAGgufFile) {
  const ScratchDirectory scratch;
  spill(scratch / "a", "GGUF");
  spill(scratch / "b", "GGU");
  spill(scratch / "c", "GGUX123");
  EXPECT_TRUE(is_gguf(scratch / "a"));
  EXPECT_FALSE(is_gguf(scratch / "b"));
  EXPECT_FALSE(is_gguf(scratch / "c"));
  EXPECT_FALSE(is_gguf(scratch / "none"));
  EXPECT_FALSE(is_gguf(scratch.path()));
  expect_data_error([&] { open_gguf(scratch / "a"); }, "is no GGUF file");
}

}  // namespace
}  // namespace lockstep
