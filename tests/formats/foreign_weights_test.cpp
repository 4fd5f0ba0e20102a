// Foreign names and layouts become ours whatever rows are asked for; what does not fit is refused
// by the name that stands in the file.
#include "formats/foreign_sample.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

using test::first_difference;
using test::foreign_source;
using test::MemorySource;
using test::renamed;
using test::small_shape;

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
      const ModelConfig config = small_shape(architecture);
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

TEST(ForeignWeights, LargeTransposedTensorsAreReadInBlocks) {
  ModelConfig config = small_shape("gpt2");
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
  const ModelConfig config = small_shape("gpt2");
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
  EXPECT_EQ(refusal(source, config), "");
  MemorySource llama = foreign_source(small_shape("llama"), Naming::kHuggingFace);
  llama.add("model.layers.0.self_attn.rotary_emb.inv_freq", {4}, std::vector<float>(4));
  EXPECT_EQ(refusal(llama, small_shape("llama")), "");
  MemorySource base;
  for (const SourceTensor& tensor : llama.tensors()) {
    std::vector<float> values(static_cast<std::size_t>(tensor.shape.count()));
    llama.read(tensor.name, 0, values);
    const bool prefixed = tensor.name.starts_with("model.");
    base.add(prefixed ? tensor.name.substr(6) : tensor.name, tensor.shape, values);
  }
  EXPECT_EQ(first_difference(*renamed(base, small_shape("llama")), small_shape("llama")), "");
  base.remove("lm_head.weight");
  EXPECT_NE(
      refusal(base, small_shape("llama")).find("lm_head.weight is missing; these are the files of"),
      std::string::npos);
}

// A configuration that ties the output, and files that bring one: the same once more, or refused.
TEST(ForeignWeights, ATiedOutputMustBeTheEmbedding) {
  for (const char* architecture : {"gpt2", "qwen2"}) {
    ModelConfig config = small_shape(architecture);
    config.tie_embeddings = "true";
    const MemorySource source = foreign_source(config, Naming::kHuggingFace);
    const char* embedding =
        config.architecture == "gpt2" ? "transformer.wte.weight" : "model.embed_tokens.weight";
    std::vector<float> values(40 * 16);
    MemorySource equal = source;
    equal.read(embedding, 0, values);
    equal.add("lm_head.weight", {40, 16}, values);
    EXPECT_EQ(refusal(equal, config), "");
    values.back() += 1.0f;
    MemorySource other = source;
    other.add("lm_head.weight", {40, 16}, values);
    EXPECT_EQ(refusal(other, config),
              std::string("dir: tie_word_embeddings is true, but tensor lm_head.weight [40, 16] is "
                          "not the embedding ") +
                  embedding + "; set it to false to use lm_head.weight, or remove that tensor");
    MemorySource misshapen = source;
    misshapen.add("lm_head.weight", {20, 32}, values);
    EXPECT_NE(refusal(misshapen, config).find("lm_head.weight [20, 32] is not the embedding"),
              std::string::npos);
  }
}

TEST(ForeignWeights, ALongerPositionTableGivesItsFirstRows) {
  const ModelConfig stored = small_shape("gpt2");
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
  const ModelConfig config = small_shape("gpt2");
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

  const ModelConfig llama = small_shape("llama");
  source = foreign_source(llama, Naming::kHuggingFace);
  source.remove("lm_head.weight");
  EXPECT_EQ(refusal(source, llama).rfind("dir: tensor lm_head.weight is missing; these are", 0),
            0u);
  source = foreign_source(llama, Naming::kGguf);
  source.remove("output.weight");
  EXPECT_EQ(refusal(source, llama, /*gguf=*/true), "dir: tensor output.weight is missing");
}

}  // namespace
}  // namespace lockstep
