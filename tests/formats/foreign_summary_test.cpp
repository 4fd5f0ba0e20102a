// Files that no model of ours can be built of still tell what is in them.
#include "formats/foreign_summary.h"

#include "app/support.h"
#include "formats/gguf.h"
#include "formats/gguf_header.h"
#include "io/fixture.h"

#include <fstream>

namespace lockstep {
namespace {

using test::catch_error;
using testing::ScratchDirectory;

void write(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

// A whole GGUF file with one matrix of 4 x 256 values per type, whose blocks are zeros.
std::string gguf_with(const std::vector<std::uint32_t>& types) {
  std::vector<GgufTensor> tensors;
  for (const std::uint32_t type : types) {
    tensors.push_back({fmt::format("t{}.weight", type), {4, 256}, static_cast<GgufType>(type)});
  }
  std::vector<std::int64_t> offsets;
  std::string bytes = gguf_header_bytes({{"general.architecture", std::string("gemma")},
                                         {"gemma.block_count", std::uint32_t{7}},
                                         {"tokenizer.ggml.model", std::string("llama")}},
                                        tensors, offsets);
  const auto data = static_cast<std::int64_t>(bytes.size());
  const GgufTensor& last = tensors.back();
  const std::int64_t end = offsets.back() + 4 * gguf_row_bytes(last.type, 256);
  bytes.resize(static_cast<std::size_t>(data + gguf_padded(end, kGgufAlignment)));
  return bytes;
}

TEST(ForeignSummary, GgufWithTypesThatAreNotRead) {
  const ScratchDirectory scratch;
  const std::string path = scratch / "m.gguf";
  write(path, gguf_with({0, 12, 14, 16, 19}));
  const ForeignSummary summary = summarize_gguf(path);
  EXPECT_EQ(summary.architecture, "gemma");
  EXPECT_EQ(summary.tensors, "1 x F32, 1 x IQ1_S, 1 x IQ2_XXS, 1 x Q4_K, 1 x Q6_K");
  EXPECT_EQ(summary.parameters, 5 * 4 * 256);
  EXPECT_EQ(summary.layers, 7);
  EXPECT_EQ(summary.tokenizer, "llama");
  const test::Caught caught = catch_error([&] { const GgufReader strict(path); });
  EXPECT_NE(
      caught.message.find("tensor 't16.weight' is IQ2_XXS, which is not read; take a file of F32"),
      std::string::npos)
      << caught.message;
}

// Of a type that nobody knows not even the size is known; the next tensor tells where it ends.
TEST(ForeignSummary, GgufWithATypeOfTheFuture) {
  const ScratchDirectory scratch;
  write(scratch / "m.gguf", gguf_with({999, 0}));
  EXPECT_EQ(summarize_gguf(scratch / "m.gguf").tensors, "1 x F32, 1 x type 999");
}

// The file's own damage is still found.
TEST(ForeignSummary, GgufThatIsCutShort) {
  const ScratchDirectory scratch;
  std::string bytes = gguf_with({12, 0});
  bytes.resize(bytes.size() - 1000);
  write(scratch / "m.gguf", bytes);
  EXPECT_EQ(catch_error([&] { summarize_gguf(scratch / "m.gguf"); }).code, ExitCode::kData);
}

TEST(ForeignSummary, AdaptersAreNamed) {
  const ScratchDirectory scratch;
  EXPECT_FALSE(is_adapter(scratch.path()));
  write(scratch / "adapter_config.json",
        R"({"peft_type": "LORA", "base_model_name_or_path": "org/base"})");
  ASSERT_TRUE(is_adapter(scratch.path()));
  EXPECT_EQ(summarize_adapter(scratch.path()).architecture, "LORA");
  const test::Caught caught = catch_error([&] { refuse_adapter(scratch.path(), ""); });
  EXPECT_EQ(caught.code, ExitCode::kData);
  EXPECT_NE(caught.message.find("holds an adapter only (adapter_config.json), no model; merge it "
                                "into its base model org/base"),
            std::string::npos)
      << caught.message;
}

}  // namespace
}  // namespace lockstep
