// Added tokens first, then normalized stretches of valid text, then pieces.
#include "data/text_splitter.h"

#include "bpe_fixture.h"

namespace lockstep {
namespace {

using Pieces = std::vector<std::string>;

struct Collector : SplitSink {
  void piece(std::string_view bytes) override { pieces.emplace_back(bytes); }
  void token(std::int32_t id) override { pieces.push_back(fmt::format("#{}", id)); }
  Pieces pieces;
};

Pieces split(const TextSplitter& splitter, std::string_view text) {
  SplitScratch scratch;
  Collector sink;
  splitter.split(text, scratch, sink);
  return sink.pieces;
}

TextSplitter make(const std::string& name, bool normalizes) {
  return {PreTokenizer(pre_tokenizer_json(name), "F"),
          normalizes,
          {{.text = "<s>", .id = 7, .special = true}},
          "F"};
}

TEST(TextSplitter, TokensAndBadBytesStandAlone) {
  EXPECT_EQ(split(make("gpt2", false), "a b<s>c\xff\xfe d"),
            (Pieces{"a", " b", "#7", "c", "\xff\xfe", " d"}));
  EXPECT_EQ(split(make("qwen2", true), "e\xcc\x81\xff e\xcc\x81"),
            (Pieces{"\xc3\xa9", "\xff", " \xc3\xa9"}));
}

TEST(TextSplitter, CutsAreWhereThePreTokenizerAllowsThem) {
  EXPECT_EQ(make("gpt2", false).safe_cut("one two"), 3U);
  EXPECT_EQ(make("gpt2", false).safe_cut("one don't"), 7U);
  EXPECT_EQ(make("gpt4o", false).safe_cut("one don't"), 3U);  // "don't" is one piece there
  EXPECT_EQ(make("bloom", false).safe_cut("one two"), 0U);
  EXPECT_EQ(make("gpt2", false).safe_cut("one <"), 3U);  // "<" may become "<s>"
}

}  // namespace
}  // namespace lockstep
