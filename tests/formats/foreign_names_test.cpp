// The names and layouts are those of the other programs; the table itself, so that reader and
// writer cannot be wrong together.
#include "formats/foreign_names.h"

#include "formats/foreign_sample.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

using test::foreign_source;
using test::MemorySource;
using test::renamed;
using test::small_shape;

TEST(ForeignNames, NamesAndLayoutsAreThoseOfTheOtherPrograms) {
  const auto find = [](const MemorySource& source, const char* name) {
    const SourceTensor* tensor = source.find(name);
    return tensor == nullptr ? std::string("absent") : tensor->shape.str();
  };
  const MemorySource gpt2 = foreign_source(small_shape("gpt2"), Naming::kHuggingFace);
  EXPECT_EQ(find(gpt2, "transformer.h.1.attn.c_attn.weight"), "[16, 48]");
  EXPECT_EQ(find(gpt2, "transformer.h.0.mlp.c_fc.weight"), "[16, 24]");
  EXPECT_EQ(find(gpt2, "transformer.h.0.mlp.c_proj.weight"), "[24, 16]");
  EXPECT_EQ(find(gpt2, "transformer.wpe.weight"), "[12, 16]");
  EXPECT_EQ(find(gpt2, "lm_head.weight"), "absent");
  const MemorySource llama = foreign_source(small_shape("llama"), Naming::kHuggingFace);
  EXPECT_EQ(find(llama, "model.layers.1.self_attn.k_proj.weight"), "[8, 16]");
  EXPECT_EQ(find(llama, "model.layers.1.self_attn.o_proj.bias"), "[16]");
  EXPECT_EQ(find(llama, "lm_head.weight"), "[40, 16]");
  const MemorySource gguf = foreign_source(small_shape("gpt2"), Naming::kGguf);
  EXPECT_EQ(find(gguf, "blk.0.attn_qkv.weight"), "[48, 16]");
  EXPECT_EQ(find(gguf, "position_embd.weight"), "[12, 16]");
  EXPECT_EQ(find(foreign_source(small_shape("qwen2"), Naming::kGguf), "blk.1.attn_v.bias"), "[8]");
  // Neighbour pairs: the second of the stored rows is the first of the second half.
  const ModelConfig config = small_shape("llama");
  MemorySource pairs = foreign_source(config, Naming::kGguf);
  std::vector<float> row(16), ours(16);
  pairs.read("blk.0.attn_q.weight", 9, row);
  const auto weights = renamed(foreign_source(config, Naming::kGguf), config, /*gguf=*/true);
  weights->read("model.layers.0.self_attn.q_proj.weight", 12, ours);
  EXPECT_EQ(row, ours);
}

}  // namespace
}  // namespace lockstep
