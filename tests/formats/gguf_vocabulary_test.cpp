// The tokens that begin and end a text, into a GGUF file and out of it again.
#include "formats/gguf_vocabulary.h"

#include "formats/gguf_fixture.h"

namespace lockstep {
namespace {

using testing::small_table;
using testing::TableTokenizer;
using Ids = std::vector<std::int32_t>;
using Values = std::map<std::string, GgufValue>;

constexpr std::int64_t kRows = 272;

GenerationConfig config_of(const std::string& text) {
  return parse_generation_config(text, "x", kRows);
}

Values written(const TokenTable& table, const GenerationConfig& generation) {
  GgufMetadata metadata;
  add_vocabulary(metadata, TableTokenizer(table), generation, "", kRows);
  return {metadata.begin(), metadata.end()};
}

std::int64_t id(const Values& values, const std::string& key) {
  const auto at = values.find("tokenizer.ggml." + key + "_token_id");
  if (at == values.end()) return -1;
  return std::get<std::uint32_t>(at->second);
}

TEST(GgufVocabulary, EveryEndOfATextIsKept) {
  TokenTable table = small_table();
  for (const char* text : {"<|eom_id|>", "<|eot_id|>"}) {
    table.entries.push_back({text, TokenTable::Kind::kSpecial});
  }
  const GenerationConfig generation =
      config_of(R"({"eos_token_id": [262, 261, 260], "bos_token_id": 259, "top_p": 0.9})");
  const Values values = written(table, generation);
  EXPECT_EQ(id(values, "bos"), 259);
  EXPECT_EQ(id(values, "eos"), 260);  // the tokenizer's own
  EXPECT_EQ(id(values, "eom"), 261);
  EXPECT_EQ(id(values, "eot"), 262);
  const GenerationConfig back = read_generation(values, "f.gguf", kRows);
  EXPECT_EQ(back.text, generation.text);
  EXPECT_EQ(back.eos, generation.eos);
}

TEST(GgufVocabulary, WithoutAModelsWordTheTokenizerDecides) {
  const Values values = written(small_table(), {});
  EXPECT_EQ(id(values, "eos"), 260);
  EXPECT_EQ(id(values, "eot"), -1);
  EXPECT_FALSE(values.contains("lockstep.generation_config"));
  EXPECT_EQ(read_generation(values, "f.gguf", kRows).eos, (Ids{260}));
}

// llama.cpp ends a text at these too: the keys, and control tokens with well-known texts.
TEST(GgufVocabulary, ForeignFilesEndWhereLlamaCppEnds) {
  TokenTable table = small_table();
  table.entries.push_back({"<|im_end|>", TokenTable::Kind::kSpecial});
  table.entries.push_back({"<|end|>", TokenTable::Kind::kAdded});  // no control token
  Values values = written(table, {});
  values["tokenizer.ggml.eot_token_id"] = std::uint32_t{259};
  EXPECT_EQ(read_generation(values, "f.gguf", kRows).eos, (Ids{260, 259, 261}));
  values["tokenizer.ggml.eot_token_id"] = std::uint32_t{999};  // no token
  EXPECT_EQ(read_generation(values, "f.gguf", kRows).eos, (Ids{260, 261}));
}

TEST(GgufVocabulary, BytesEndNowhere) {
  TokenTable table = open_tokenizer("byte")->table();
  const Values values = written(table, {});
  EXPECT_EQ(id(values, "eos"), 256);  // an unused id, which never comes
  EXPECT_TRUE(read_generation(values, "f.gguf", kRows).eos.empty());
}

}  // namespace
}  // namespace lockstep
