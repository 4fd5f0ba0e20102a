// How documents are divided between training and validation.
#include "data/text_input.h"

#include "compress.h"
#include "fixture.h"

#include <algorithm>

namespace lockstep {
namespace {

using test::expect_error;
using test::gzip;
using test::TempDir;
using test::write_file;
using test::zstd;

class TextInputTest : public ::testing::Test {
 protected:
  // Documents of these sizes, each with other content, under DIR/<folder>.
  std::vector<TextInput> documents(const std::string& folder, const std::vector<int>& sizes) {
    std::vector<std::string> names;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      names.push_back(dir / (folder + "/" + std::to_string(i) + ".txt"));
      std::string text = std::to_string(i) + " ";
      text.resize(static_cast<std::size_t>(sizes[i]), 'x');
      write_file(names.back(), text);
    }
    return find_inputs(names);
  }
  static double share(const std::vector<TextInput>& inputs, const std::vector<bool>& chosen) {
    double all = 0, held = 0;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      all += static_cast<double>(inputs[i].bytes);
      held += chosen[i] ? static_cast<double>(inputs[i].bytes) : 0.0;
    }
    return held / all;
  }
  TextInput text(const std::string& content) {
    write_file(dir / "t.txt", content);
    return std::move(find_inputs({dir / "t.txt"}).front());
  }
  TempDir dir;
};

TEST_F(TextInputTest, ManyDocumentsMeetTheFraction) {
  std::vector<int> sizes;
  for (int i = 0; i < 200; ++i) sizes.push_back(50 + (i * 37) % 100);
  const auto inputs = documents("many", sizes);
  for (const double fraction : {0.05, 0.1, 0.5, 0.9}) {
    EXPECT_NEAR(share(inputs, choose_validation(inputs, fraction)), fraction, 0.01);
  }
}

TEST_F(TextInputTest, BothSplitsGetADocument) {
  const std::vector<std::vector<int>> cases = {
      {100, 100}, {10, 10000}, {10000, 10}, {500, 500, 500}, {1, 1, 1, 9000}};
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto inputs = documents(std::to_string(i), cases[i]);
    for (const double fraction : {1e-9, 0.1, 0.5, 0.999}) {
      const auto chosen = choose_validation(inputs, fraction);
      const auto held = std::count(chosen.begin(), chosen.end(), true);
      EXPECT_GE(held, 1) << i << " " << fraction;
      EXPECT_LT(held, static_cast<std::ptrdiff_t>(inputs.size())) << i << " " << fraction;
    }
  }
}

TEST_F(TextInputTest, ALongDocumentDoesNotSwallowTheSplit) {
  const auto inputs = documents("long", {100000, 10, 20, 30});
  EXPECT_FALSE(choose_validation(inputs, 0.1)[0]);
}

TEST_F(TextInputTest, TheChoiceFollowsContentNotPathOrPlace) {
  const std::vector<int> sizes(20, 100);
  const auto here = documents("here", sizes);
  const auto chosen = choose_validation(here, 0.2);
  EXPECT_EQ(choose_validation(documents("there", sizes), 0.2), chosen);
  auto names = std::vector<std::string>();
  for (const TextInput& input : here) names.push_back(input.name);
  std::reverse(names.begin(), names.end());
  auto reversed = choose_validation(find_inputs(names), 0.2);
  std::reverse(reversed.begin(), reversed.end());
  EXPECT_EQ(reversed, chosen);
}

TEST_F(TextInputTest, NothingIsHeldOutAtZero) {
  const auto inputs = documents("zero", {10, 10, 10});
  const auto chosen = choose_validation(inputs, 0.0);
  EXPECT_EQ(std::count(chosen.begin(), chosen.end(), true), 0);
  EXPECT_EQ(tail_begin(inputs[0], 0.0), 10);
}

TEST_F(TextInputTest, TheTailOfTheOnlyDocument) {
  EXPECT_EQ(tail_begin(text(std::string(1115394, 'a')), 0.1), 1003854);  // as nanoGPT cuts it
  EXPECT_EQ(tail_begin(text("ab"), 1e-9), 1);
  EXPECT_EQ(tail_begin(text("ab"), 0.999), 1);
  EXPECT_EQ(tail_begin(text("a"), 0.5), 1);  // one byte cannot be divided
}

TEST_F(TextInputTest, TheTailBeginsAtACharacter) {
  EXPECT_EQ(tail_begin(text("aaa\xf0\x9f\x98\x80zz"), 0.34), 3);  // 5 lies inside the emoji
  EXPECT_EQ(tail_begin(text("aaa\xf0\x9f\x98\x80zz"), 0.2), 7);   // just after it
  EXPECT_EQ(tail_begin(text(std::string(10, '\x80')), 0.5), 5);   // no UTF-8 at all
  EXPECT_EQ(tail_begin(text("\xf0\x9f\x98\x80"), 0.5), 2);        // nothing but one character
}

TEST_F(TextInputTest, WhatIsNoTextIsNamed) {
  expect_error(ExitCode::kUsage, {"no text given"}, [] { find_inputs({}); });
  expect_error(ExitCode::kUsage, {"more than once"}, [] { find_inputs({"-", "-"}); });
  expect_error(ExitCode::kData, {dir / "none.txt", "No such file"},
               [&] { find_inputs({dir / "none.txt"}); });
  expect_error(ExitCode::kData, {dir.path(), "is a directory", "text file"},
               [&] { find_inputs({dir.path()}); });
  for (const char* name : {"a.json", "a.parquet", "a.json.gz", "a.tar.zst"}) {
    write_file(dir / name, "{}");
    expect_error(ExitCode::kUsage, {dir / name, "files are not read", ".jsonl", "'-'"},
                 [&] { find_inputs({dir / name}); });
  }
}

TEST_F(TextInputTest, NamesTellFormatAndCompression) {
  const auto found = [&](const std::string& name) {
    write_file(dir / name, "x");
    return std::move(find_inputs({dir / name}).front());
  };
  for (const char* name : {"a.txt", "a", "a.md", "a.txt.gz", "a.gz", "a.zst", "a.v2.txt.zst"}) {
    EXPECT_EQ(found(name).format, TextFormat::kText) << name;
  }
  for (const char* name : {"a.jsonl", "a.jsonl.gz", "a.jsonl.zst"}) {
    EXPECT_EQ(found(name).format, TextFormat::kLines) << name;
  }
  EXPECT_EQ(found("a.jsonl").compression, Compression::kNone);
  EXPECT_EQ(found("a.jsonl.gz").compression, Compression::kGzip);
  EXPECT_EQ(found("a.zst").compression, Compression::kZstd);
  EXPECT_EQ(found("a.txt").bytes, 1);
  EXPECT_EQ(found("a.gz").bytes, -1);
  EXPECT_EQ(found("a.gz").stored, 1);
}

TEST_F(TextInputTest, ContentTellsWhatCameThroughAPipe) {
  const auto piped = [&](const std::string& content) {
    write_file(dir / "pipe", content);
    TextInput input;
    input.name = "standard input";
    input.format = TextFormat::kUndecided;
    input.pipe = InputStream(dir / "pipe", "a pipe");
    spool(input, dir / "copy", [](auto) {});
    return input;
  };
  EXPECT_EQ(piped("text").format, TextFormat::kText);
  EXPECT_EQ(piped("text").bytes, 4);
  EXPECT_EQ(piped(" {\"text\": 1}").format, TextFormat::kText);
  EXPECT_EQ(piped("{\"text\": 1}").format, TextFormat::kLines);
  EXPECT_EQ(piped(gzip("text")).compression, Compression::kGzip);
  EXPECT_EQ(piped(gzip("text")).format, TextFormat::kText);
  EXPECT_EQ(piped(gzip("{}")).format, TextFormat::kLines);
  EXPECT_EQ(piped(zstd("{}")).compression, Compression::kZstd);
}

TEST_F(TextInputTest, CompressedTextsAreMeasured) {
  write_file(dir / "a.txt.gz", gzip("hello") + gzip(" world"));
  TextInput input = std::move(find_inputs({dir / "a.txt.gz"}).front());
  std::int64_t told = 0;
  measure(input, [&](std::int64_t read) { told = read; });
  EXPECT_EQ(input.bytes, 11);
  EXPECT_GT(told, 0);
  EXPECT_EQ(tail_begin(input, 0.5), 5);
  EXPECT_EQ(document_hash(input), document_hash("hello world", 11));
}

TEST_F(TextInputTest, EmptyOnesAreLeftOutUnlessAllAre) {
  write_file(dir / "empty.txt", "");
  write_file(dir / "b.txt.gz", gzip(""));
  write_file(dir / "text.txt", "text");
  auto inputs = find_inputs({dir / "empty.txt", dir / "b.txt.gz", dir / "text.txt"});
  measure(inputs[1], [](auto) {});
  EXPECT_EQ(drop_empty(inputs), 2);
  EXPECT_EQ(inputs.front().name, dir / "text.txt");
  auto none = find_inputs({dir / "empty.txt", dir / "empty.txt"});
  expect_error(ExitCode::kData, {dir / "empty.txt: empty"}, [&] { drop_empty(none); });
}

TEST_F(TextInputTest, OtherEncodingsAreNamedWithTheCommandThatConverts) {
  write_file(dir / "a b.txt", "\xff\xfeh\0i\0");
  expect_error(ExitCode::kData,
               {"not UTF-8 but UTF-16", "`iconv -f UTF-16 -t UTF-8 '" + (dir / "a b.txt") + "' > '",
                "a b.utf8.txt'`", "--tokenizer byte"},
               [&] { require_utf8(find_inputs({dir / "a b.txt"}).front()); });
  write_file(dir / "c.jsonl.gz", gzip("{\"text\": \"Gr\xfc\xdf"
                                      "e\"}"));
  expect_error(ExitCode::kData, {"Latin-1", "`iconv -f WINDOWS-1252 -t UTF-8`"},
               [&] { require_utf8(find_inputs({dir / "c.jsonl.gz"}).front()); });
  write_file(dir / "d.txt",
             "Gr\xc3\xbc\xc3\x9f"
             "e");
  require_utf8(find_inputs({dir / "d.txt"}).front());
}

TEST_F(TextInputTest, TheTailInAFileIsThatInMemory) {
  const std::string content = "aaa\xf0\x9f\x98\x80zz\xc3\xa9x";
  const TextInput plain = text(content);
  write_file(dir / "t.gz", gzip(content));
  TextInput compressed = std::move(find_inputs({dir / "t.gz"}).front());
  measure(compressed, [](auto) {});
  for (const double fraction : {0.01, 0.2, 0.35, 0.5, 0.7, 0.99}) {
    const std::int64_t cut = tail_begin(std::string_view(content), fraction);
    EXPECT_EQ(tail_begin(plain, fraction), cut);
    EXPECT_EQ(tail_begin(compressed, fraction), cut);
  }
  EXPECT_EQ(tail_begin(std::string_view("a"), 0.5), 1);
}

}  // namespace
}  // namespace lockstep
