// Lines of JSON as documents, and one clear line for each way they can be wrong.
#include "data/json_document.h"

#include "core/rng.h"
#include "data/text_input.h"
#include "fixture.h"

namespace lockstep {
namespace {

using test::expect_error;

JsonDocument parse(std::string_view line, const std::string& field = "text") {
  return parse_document(line, field, "f.jsonl:7");
}
void expect_bad(std::string_view line, const std::vector<std::string>& parts) {
  auto all = parts;
  all.emplace_back("f.jsonl:7: ");
  expect_error(ExitCode::kData, all, [&] { parse(line); });
}

TEST(JsonDocument, TheTextIsFoundAmongOtherMembers) {
  const JsonDocument document = parse(R"({"id": 3, "meta": {"text": "no", "x": [{"text": "no"}]}, )"
                                      R"("text": "a\u00e9\n\ud83d\ude00", "z": null})");
  EXPECT_EQ(document.text, "a\xc3\xa9\n\xf0\x9f\x98\x80");
  EXPECT_EQ(document.prompt, "");
  EXPECT_FALSE(document.has_prompt);
  EXPECT_EQ(parse(R"({"content": "yes", "text": "no"})", "content").text, "yes");
  EXPECT_EQ(parse(R"({"text": "first", "text": "last"})").text, "last");
  EXPECT_EQ(parse("\xef\xbb\xbf{\"text\": \"x\"}\r").text, "x");  // a byte order mark
  EXPECT_EQ(parse(R"({"text": "nul \u0000 byte"})").text, std::string("nul \0 byte", 10));
}

TEST(JsonDocument, PromptAndCompletionAreKeptApart) {
  const JsonDocument document = parse(R"({"prompt": "2+2=", "completion": "4", "x": 1})");
  EXPECT_TRUE(document.has_prompt);
  EXPECT_EQ(document.prompt, "2+2=");
  EXPECT_EQ(document.text, "4");
  EXPECT_EQ(document.bytes(), 5);
  EXPECT_TRUE(parse(R"({"prompt": "", "completion": ""})").has_prompt);
  // The text wins where both stand; then the others may be anything.
  EXPECT_FALSE(parse(R"({"prompt": 1, "completion": 2, "text": "t"})").has_prompt);
}

TEST(JsonDocument, TheHashIsThatOfATextFileWithTheSameContent) {
  EXPECT_EQ(parse(R"({"text": "ab\ncd"})").hash(), document_hash("ab\ncd", 5));
  EXPECT_EQ(parse(R"({"prompt": "ab\n", "completion": "cd"})").hash(), document_hash("ab\ncd", 5));
  EXPECT_NE(parse(R"({"text": "ab\ncd"})").hash(), parse(R"({"text": "ab\ncD"})").hash());
}

TEST(JsonDocument, MissingMembersAreNamedWithWhatThereIs) {
  expect_bad(R"({"content": "x", "id": 1})",
             {"no \"text\"", "no \"prompt\"", "\"content\", \"id\"", "--text-field"});
  expect_bad("{}", {"no \"text\"", "it has nothing"});
  expect_bad(R"({"prompt": "x"})", {"\"prompt\" without \"completion\""});
  expect_bad(R"({"completion": "x"})", {"\"completion\" without \"prompt\""});
  // Names come from the file: shortened, escaped, and only a few of them.
  std::string many = "{";
  for (int i = 0; i < 50; ++i) many += fmt::format("\"n{}\\n\": 0, ", i);
  expect_bad(many + "\"" + std::string(10'000, '\xc3') + "\": 0}", {"not UTF-8"});
  expect_bad(many + "\"e\": 0}", {"\"n7\\n\": name the text"});
  std::string accents = "x";
  for (int i = 0; i < 5000; ++i) accents += "\xc3\xa9";  // a cut falls inside a character
  expect_bad("{\"" + accents + "\": 0}", {"\\u00e9", "\\ufffd"});
}

TEST(JsonDocument, WrongTypesAreNamed) {
  expect_bad(R"({"text": 5})", {"\"text\" is a number; it must be a string"});
  expect_bad(R"({"text": -5})", {"\"text\" is a number"});
  expect_bad(R"({"text": 0.5})", {"\"text\" is a number"});
  expect_bad(R"({"text": null})", {"\"text\" is null"});
  expect_bad(R"({"text": true})", {"\"text\" is a boolean"});
  expect_bad(R"({"text": ["x"]})", {"\"text\" is a list"});
  expect_bad(R"({"text": {"text": "x"}})", {"\"text\" is an object"});
  expect_bad(R"({"prompt": "x", "completion": [1]})", {"\"completion\" is a list"});
  expect_bad(R"({"text": "x", "text": 1})", {"\"text\" is a number"});
}

TEST(JsonDocument, WhatIsNoObjectIsRefused) {
  for (const char* line : {"[]", "\"text\"", "5", "null", R"([{"text": "x"}])"}) {
    expect_bad(line, {"not a JSON object"});
  }
}

TEST(JsonDocument, WhatWritersAddToTheStandardIsReadOver) {
  const JsonDocument document =
      parse(R"({"score": NaN, "n": [1e999, -Infinity], "id": "\ud800 \udfff", "text": "ab"})");
  EXPECT_EQ(document.text, "ab");
  EXPECT_EQ(document.replaced, 0);
  const JsonDocument halves = parse(R"({"text": "\ud83da\ude00 \ud83d\ude00 \ufffd", "x": NaN})");
  EXPECT_EQ(halves.text,
            "\xef\xbf\xbd"
            "a\xef\xbf\xbd \xf0\x9f\x98\x80 \xef\xbf\xbd");
  EXPECT_EQ(halves.replaced, 2);
  const JsonDocument pair = parse(R"({"prompt": "\udc00", "completion": "\udc00\udc00"})");
  EXPECT_EQ(pair.replaced, 3);
  expect_bad(R"({"text": NaN})", {"\"text\" is a number"});
  expect_bad(R"({"a": NaN, "text": "x")", {"not valid JSON at byte 23"});
}

TEST(JsonDocument, BadSyntaxIsNamedWithItsByte) {
  expect_bad(R"({"text": "x")", {"not valid JSON at byte 13"});
  expect_bad(R"({"text": 'x'})", {"not valid JSON at byte 10"});
  expect_bad(R"({"text": "x"} {"text": "y"})", {"not valid JSON at byte 15"});
  expect_bad("plain text", {"not valid JSON at byte 1"});
  expect_bad("{\"text\": \"tab\there\"}", {"not valid JSON"});
  expect_bad(std::string("{\"text\":\0 \"x\"}", 14), {"not valid JSON"});
  expect_bad("{\"text\": \"caf\xe9\"}", {"not UTF-8 near byte 15"});
  expect_bad("{\"text\": \"\xed\xa0\x80\"}", {"not UTF-8"});
  expect_bad("{\"text\": \"\xc0\xaf\"}", {"not UTF-8"});
}

TEST(JsonDocument, DepthCostsNothing) {
  const std::string deep = std::string(200'000, '[') + std::string(200'000, ']');
  EXPECT_EQ(parse("{\"deep\": " + deep + ", \"text\": \"x\"}").text, "x");
  expect_bad(std::string(200'000, '{'), {"not valid JSON"});
}

TEST(JsonDocument, RandomDamageNeverDoesMoreThanFail) {
  const std::string whole = R"({"prompt": "a\u00e9", "completion": "x", "n": [1, {"y": 2e5}]})";
  for (std::uint64_t round = 0; round < 3000; ++round) {
    std::string line = whole;
    const auto random = philox(3, round);
    line[random[0] % line.size()] = static_cast<char>(random[1]);
    if (random[2] % 3 == 0) line.resize(random[3] % line.size());
    try {
      parse(line);
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::kData);
      EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos);
    }
  }
}

}  // namespace
}  // namespace lockstep
