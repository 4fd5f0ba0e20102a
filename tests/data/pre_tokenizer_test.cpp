// Pre-tokenizers: pieces by hand, and parts that are refused.
#include "data/pre_tokenizer.h"

#include "bpe_fixture.h"

namespace lockstep {
namespace {

using test::expect_error;
using test::json;
using Pieces = std::vector<std::string>;

struct Collector : PieceSink {
  void piece(std::string_view bytes) override { pieces.emplace_back(bytes); }
  Pieces pieces;
};

Pieces split(const std::string& json_text, std::string_view text) {
  RegexScratch scratch;
  Collector sink;
  PreTokenizer(json_text, "tokenizer.json").split(text, scratch, sink);
  return sink.pieces;
}

// A Split with this pattern, then bytes.
std::string split_json(const json& pattern, const std::string& behavior, bool invert = false) {
  const json step = {
      {"type", "Split"}, {"pattern", pattern}, {"behavior", behavior}, {"invert", invert}};
  return json{{"type", "Sequence"},
              {"pretokenizers",
               {step, {{"type", "ByteLevel"}, {"use_regex", false}, {"add_prefix_space", false}}}}}
      .dump();
}

TEST(PreTokenizer, PublishedOnesSplitAsTheirModelsDo) {
  const std::string text = "Don't DON'T  12345\n\n x!?\n";
  EXPECT_EQ(split(pre_tokenizer_json("gpt2"), text),
            (Pieces{"Don", "'t", " DON", "'", "T", " ", " 12345", "\n\n", " x", "!?", "\n"}));
  EXPECT_EQ(
      split(pre_tokenizer_json("qwen2"), text),
      (Pieces{"Don", "'t", " DON", "'T", " ", " ", "1", "2", "3", "4", "5", "\n\n", " x", "!?\n"}));
  EXPECT_EQ(split(pre_tokenizer_json("llama3"), text),
            (Pieces{"Don", "'t", " DON", "'T", " ", " ", "123", "45", "\n\n", " x", "!?\n"}));
  EXPECT_EQ(split(pre_tokenizer_json("deepseek"), "a-b 1234\xe4\xb8\xad\xe3\x82\xab x\xcc\x81"),
            (Pieces{"a", "-b", " ", "123", "4", "\xe4\xb8\xad\xe3\x82\xab", " x\xcc\x81"}));
}

TEST(PreTokenizer, SpacesAreThoseOfUnicodesProperty) {
  const auto pieces = [](const char* text) {
    return split(split_json({{"Regex", "\\s+"}}, "Isolated"), text).size();
  };
  for (const char* space : {"a\xc2\x85z", "a\xe2\x80\x83z", "a\xe3\x80\x80z", "a\x0bz"}) {
    EXPECT_EQ(pieces(space), 3U) << space;
  }
  // U+180E, U+200B, U+FEFF, the unit separator
  for (const char* other : {"a\xe1\xa0\x8ez", "a\xe2\x80\x8bz", "a\xef\xbb\xbfz", "a\x1fz"}) {
    EXPECT_EQ(pieces(other), 1U) << other;
  }
}

TEST(PreTokenizer, BehavioursOfSplit) {
  const json space = {{"String", " "}};
  const std::string text = "a  b c";
  const auto run = [&](const char* name, bool invert = false) {
    return split(split_json(space, name, invert), text);
  };
  EXPECT_EQ(run("Isolated"), (Pieces{"a", " ", " ", "b", " ", "c"}));
  EXPECT_EQ(run("Removed"), (Pieces{"a", "b", "c"}));
  EXPECT_EQ(run("Removed", true), (Pieces{" ", " ", " "}));
  EXPECT_EQ(run("MergedWithPrevious"), (Pieces{"a ", " ", "b ", "c"}));
  EXPECT_EQ(run("MergedWithNext"), (Pieces{"a", " ", " b", " c"}));
  EXPECT_EQ(run("Contiguous"), (Pieces{"a", "  ", "b", " ", "c"}));
}

TEST(PreTokenizer, DigitsAndPrefixSpaces) {
  const auto digits = [](bool each) {
    return json{{"type", "Sequence"},
                {"pretokenizers",
                 {{{"type", "Digits"}, {"individual_digits", each}},
                  {{"type", "ByteLevel"}, {"use_regex", false}}}}}
        .dump();
  };
  EXPECT_EQ(split(digits(true), "a12"), (Pieces{" a", " 1", " 2"}));  // absent: a prefix space
  EXPECT_EQ(split(digits(false), " a12"), (Pieces{" a", " 12"}));
  EXPECT_EQ(split(R"({"type":"ByteLevel","add_prefix_space":true})", "a b"), (Pieces{" a", " b"}));
}

TEST(PreTokenizer, WhatIsNotSupportedIsNamed) {
  const auto expect_bad = [](const std::string& text, const std::vector<std::string>& parts) {
    expect_error(ExitCode::kData, parts, [&] { PreTokenizer(text, "tokenizer.json"); });
  };
  expect_bad(R"({"type":"Metaspace"})",
             {"tokenizer.json: pre_tokenizer type 'Metaspace' is not supported; known:"});
  expect_bad(R"({"type":"Digits"})", {"no ByteLevel step"});
  expect_bad(R"({"type":"Sequence","pretokenizers":[]})", {"Sequence needs 1 to"});
  expect_bad(R"({"type":"Sequence","pretokenizers":[3]})", {"type 'no object'"});
  expect_bad(R"({"type":3})", {"'type' is missing or no string"});
  expect_bad(R"({"type":"Sequence","pretokenizers":[{"type":"ByteLevel"},{"type":"Digits"}]})",
             {"'Digits' after ByteLevel"});
  expect_bad(R"({"type":"ByteLevel","use_regex":"yes"})", {"'use_regex' is neither"});
  expect_bad(split_json({{"Regex", "a"}}, "Sideways"), {"behavior 'Sideways'; known: Isolated"});
  expect_bad(split_json("a", "Isolated"), {"needs a pattern"});
  expect_bad(split_json({{"Regex", ""}}, "Isolated"), {"empty pattern"});
}

}  // namespace
}  // namespace lockstep
