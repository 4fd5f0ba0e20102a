// Published pre-tokenizers: each is what its name says, and told apart from all others.
#include "bpe_fixture.h"

#include <set>

namespace lockstep {
namespace {

using test::json;
using Pieces = std::vector<std::string>;

struct Collector : PieceSink {
  void piece(std::string_view bytes) override { pieces.emplace_back(bytes); }
  Pieces pieces;
};

Pieces split(const std::string& name, std::string_view text) {
  RegexScratch scratch;
  Collector sink;
  PreTokenizer(pre_tokenizer_json(name), name).split(text, scratch, sink);
  return sink.pieces;
}

TEST(KnownPreTokenizers, KnownOnesAreRecognisedByWhatTheyDo) {
  for (const std::string& name : pre_tokenizer_names()) {
    EXPECT_EQ(PreTokenizer(pre_tokenizer_json(name), "x").name(), name);
  }
  json llama = json::parse(pre_tokenizer_json("llama3"));
  json& step = llama["pretokenizers"][0];
  llama["pretokenizers"][1]["trim_offsets"] = false;
  step["behavior"] = "Removed";
  step["invert"] = true;
  EXPECT_EQ(PreTokenizer(llama.dump(), "x").name(), "llama3");
  step["invert"] = false;
  EXPECT_EQ(PreTokenizer(llama.dump(), "x").name(), "");
  json deepseek = json::parse(pre_tokenizer_json("deepseek"));
  std::string pattern = deepseek["pretokenizers"][2]["pattern"]["Regex"];
  for (std::size_t at = 0; (at = pattern.find('\n', at)) != std::string::npos;) {
    pattern.replace(at, 1, "\\n");
  }
  deepseek["pretokenizers"][2]["pattern"]["Regex"] = pattern;
  EXPECT_EQ(PreTokenizer(deepseek.dump(), "x").name(), "deepseek");
  EXPECT_EQ(PreTokenizer(R"({"type":"ByteLevel","add_prefix_space":true})", "x").name(), "");
}

TEST(KnownPreTokenizers, DigitsStepsAreSplitsOfDigits) {
  const json smollm = json::parse(
      R"({"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},
          {"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true}]})");
  EXPECT_EQ(known_pre_tokenizer(smollm.dump()), "smollm");
}

TEST(KnownPreTokenizers, EachKeepsAllOfATextAndFewAgree) {
  const std::string text =
      "Don't STOP: 1234567 na\xc3\xafve \xe4\xb8\xad\xe6\x96\x87x \r\n\n  (a-b)/ 12. IMGIMGAZ";
  std::set<Pieces> ways;
  for (const std::string& name : pre_tokenizer_names()) {
    const Pieces pieces = split(name, text);
    std::string whole;
    for (const std::string& piece : pieces) whole += piece;
    EXPECT_EQ(whole, text) << name;
    ways.insert(pieces);
  }
  EXPECT_GE(ways.size(), pre_tokenizer_names().size() - 4);  // some differ in rarer text only
}

TEST(KnownPreTokenizers, SplitAsTheirModelsDo) {
  EXPECT_EQ(split("smollm", "it's 12"), (Pieces{"it", "'s", " ", "1", "2"}));
  EXPECT_EQ(split("gpt4o", "I don't useHTTP 1234"),
            (Pieces{"I", " don't", " use", "HTTP", " ", "123", "4"}));
  EXPECT_EQ(split("tekken", "don't 12"), (Pieces{"don", "'t", " ", "1", "2"}));
  EXPECT_EQ(split("afmoe", "1234567"), (Pieces{"1", "234", "567"}));
  EXPECT_EQ(split("superbpe", "a b 1234"), (Pieces{"a b ", "1", "234"}));
  EXPECT_EQ(split("bloom", "a-b, c"), (Pieces{"a-b", ",", " c"}));
  EXPECT_EQ(split("deepseek-coder", "a b\n12"), (Pieces{"a", " b", "\n", "1", "2"}));
}

}  // namespace
}  // namespace lockstep
