// Foreign names and layouts become ours whatever rows are asked for; what does not fit is refused
// by the name that stands in the file.
#include "formats/foreign_model.h"
#include "formats/memory_source.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

using test::first_difference;
using test::foreign_source;
using test::MemorySource;

ModelConfig shape(const std::string& architecture) {
  ModelConfig config;
  config.architecture = architecture;
  config.layers = 2;
  config.heads = 2;
  config.kv_heads = architecture == "gpt2" ? 2 : 1;
  config.hidden = 16;
  config.ffn = 24;
  config.vocab = 40;
  config.seq_len = 12;
  config.attention_bias = architecture == "llama" ? "true" : "";
  resolve(config, /*tokenizer_vocab=*/0);
  return config;
}

std::unique_ptr<WeightSource> renamed(MemorySource source, const ModelConfig& config,
                                      bool gguf = false) {
  return under_our_names(std::make_unique<MemorySource>(std::move(source)), config, gguf, "dir");
}

std::string refusal(MemorySource source, const ModelConfig& config, bool gguf = false) {
  try {
    renamed(std::move(source), config, gguf);
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
    return error.what();
  }
  return "";
}

TEST(ForeignWeights, EveryLayoutReadsBackAsOurs) {
  for (const char* architecture : {"gpt2", "llama", "qwen2"}) {
    for (const bool gguf : {false, true}) {
      const ModelConfig config = shape(architecture);
      const auto weights = renamed(
          foreign_source(config, gguf ? Naming::kGguf : Naming::kHuggingFace), config, gguf);
      EXPECT_EQ(first_difference(*weights, config), "") << architecture << " gguf " << gguf;
      const std::vector<Parameter> parameters = declared_parameters(config);
      ASSERT_EQ(weights->tensors().size(), parameters.size());
      for (std::size_t i = 0; i < parameters.size(); ++i) {
        EXPECT_EQ(weights->tensors()[i].name, parameters[i].name);
        EXPECT_EQ(weights->tensors()[i].shape, parameters[i].shape);
      }
    }
  }
}

// The table itself, so that reader and writer cannot be wrong together.
TEST(ForeignWeights, NamesAndLayoutsAreThoseOfTheOtherPrograms) {
  const auto find = [](const MemorySource& source, const char* name) {
    const SourceTensor* tensor = source.find(name);
    return tensor == nullptr ? std::string("absent") : tensor->shape.str();
  };
  const MemorySource gpt2 = foreign_source(shape("gpt2"), Naming::kHuggingFace);
  EXPECT_EQ(find(gpt2, "transformer.h.1.attn.c_attn.weight"), "[16, 48]");
  EXPECT_EQ(find(gpt2, "transformer.h.0.mlp.c_fc.weight"), "[16, 24]");
  EXPECT_EQ(find(gpt2, "transformer.h.0.mlp.c_proj.weight"), "[24, 16]");
  EXPECT_EQ(find(gpt2, "transformer.wpe.weight"), "[12, 16]");
  EXPECT_EQ(find(gpt2, "lm_head.weight"), "absent");
  const MemorySource llama = foreign_source(shape("llama"), Naming::kHuggingFace);
  EXPECT_EQ(find(llama, "model.layers.1.self_attn.k_proj.weight"), "[8, 16]");
  EXPECT_EQ(find(llama, "model.layers.1.self_attn.o_proj.bias"), "[16]");
  EXPECT_EQ(find(llama, "lm_head.weight"), "[40, 16]");
  const MemorySource gguf = foreign_source(shape("gpt2"), Naming::kGguf);
  EXPECT_EQ(find(gguf, "blk.0.attn_qkv.weight"), "[48, 16]");
  EXPECT_EQ(find(gguf, "position_embd.weight"), "[12, 16]");
  EXPECT_EQ(find(foreign_source(shape("qwen2"), Naming::kGguf), "blk.1.attn_v.bias"), "[8]");
  // Neighbour pairs: the second of the stored rows is the first of the second half.
  const ModelConfig config = shape("llama");
  MemorySource pairs = foreign_source(config, Naming::kGguf);
  std::vector<float> row(16), ours(16);
  pairs.read("blk.0.attn_q.weight", 9, row);
  const auto weights = renamed(foreign_source(config, Naming::kGguf), config, /*gguf=*/true);
  weights->read("model.layers.0.self_attn.q_proj.weight", 12, ours);
  EXPECT_EQ(row, ours);
}

TEST(ForeignWeights, LargeTransposedTensorsAreReadInBlocks) {
  ModelConfig config = shape("gpt2");
  config.ffn = 1 << 19;  // a block holds two of the 16 stored rows
  const std::vector<Parameter> parameters = declared_parameters(config);
  const auto weights = renamed(foreign_source(config, Naming::kHuggingFace), config);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    if (parameters[i].name != "transformer.h.0.mlp.c_fc.weight") continue;
    std::vector<float> values(3 * 16);
    weights->read(parameters[i].name, 1000, values);
    for (std::int64_t at = 0; at < 48; ++at) {
      EXPECT_EQ(values[static_cast<std::size_t>(at)], test::value_of(i, 1000 + at / 16, at % 16));
    }
  }
}

TEST(ForeignWeights, KnownBuffersAndBareNamesAreAccepted) {
  const ModelConfig config = shape("gpt2");
  MemorySource source = foreign_source(config, Naming::kHuggingFace);
  MemorySource bare;
  for (const SourceTensor& tensor : source.tensors()) {
    std::vector<float> values(static_cast<std::size_t>(tensor.shape.count()));
    source.read(tensor.name, 0, values);
    bare.add(tensor.name.substr(std::string("transformer.").size()), tensor.shape, values);
  }
  EXPECT_EQ(first_difference(*renamed(bare, config), config), "");
  source.add("transformer.h.0.attn.bias", {1, 1, 12, 12}, std::vector<float>(144));
  source.add("transformer.h.0.attn.masked_bias", {}, {0.0f});
  source.add("lm_head.weight", {40, 16}, std::vector<float>(640));
  EXPECT_EQ(refusal(source, config), "");
  MemorySource llama = foreign_source(shape("llama"), Naming::kHuggingFace);
  llama.add("model.layers.0.self_attn.rotary_emb.inv_freq", {4}, std::vector<float>(4));
  EXPECT_EQ(refusal(llama, shape("llama")), "");
}

TEST(ForeignWeights, ALongerPositionTableGivesItsFirstRows) {
  const ModelConfig stored = shape("gpt2");
  ModelConfig shorter = stored;
  shorter.seq_len = 5;
  const auto weights = renamed(foreign_source(stored, Naming::kHuggingFace), shorter);
  EXPECT_EQ(first_difference(*weights, shorter), "");
  ModelConfig longer = stored;
  longer.seq_len = 13;
  EXPECT_NE(refusal(foreign_source(stored, Naming::kHuggingFace), longer)
                .find("dir: tensor transformer.wpe.weight has shape [12, 16], the configuration "
                      "asks for [13, 16]"),
            std::string::npos);
}

TEST(ForeignWeights, RefusesMissingMisshapenAndUnknownTensors) {
  const ModelConfig config = shape("gpt2");
  MemorySource source = foreign_source(config, Naming::kHuggingFace);
  source.remove("transformer.h.1.ln_2.bias");
  EXPECT_EQ(refusal(source, config), "dir: tensor transformer.h.1.ln_2.bias is missing");

  source = foreign_source(config, Naming::kHuggingFace);
  source.remove("transformer.h.0.attn.c_attn.weight");
  source.add("transformer.h.0.attn.c_attn.weight", {48, 16}, std::vector<float>(768));
  EXPECT_NE(refusal(source, config).find("has shape [48, 16], the configuration asks for [16, 48]"),
            std::string::npos);

  source = foreign_source(config, Naming::kHuggingFace);
  source.add("transformer.h.2.ln_1.weight", {16}, std::vector<float>(16));
  EXPECT_NE(refusal(source, config).find("transformer.h.2.ln_1.weight has no place in a gpt2"),
            std::string::npos);

  const ModelConfig llama = shape("llama");
  source = foreign_source(llama, Naming::kHuggingFace);
  source.remove("lm_head.weight");
  EXPECT_EQ(refusal(source, llama), "dir: tensor lm_head.weight is missing");
  source = foreign_source(llama, Naming::kGguf);
  source.remove("output.weight");
  EXPECT_EQ(refusal(source, llama, /*gguf=*/true), "dir: tensor output.weight is missing");
}

}  // namespace
}  // namespace lockstep
