// Which documents validate when there are JSON lines among the inputs.
#include "data/split.h"

#include "compress.h"
#include "data/json_document.h"
#include "fixture.h"

namespace lockstep {
namespace {

using test::expect_error;
using test::gzip;
using test::TempDir;
using test::write_file;

class SplitTest : public ::testing::Test {
 protected:
  std::vector<TextInput> inputs(const std::vector<std::string>& names) {
    std::vector<std::string> paths;
    for (const std::string& name : names) paths.push_back(dir / name);
    auto found = find_inputs(paths);
    for (TextInput& input : found) {
      if (input.format == TextFormat::kText && input.bytes < 0) measure(input, [](auto) {});
    }
    return found;
  }
  Split split(const std::vector<std::string>& names, double fraction) {
    return choose_split(inputs(names), fraction, "text", [](auto) {});
  }
  static std::string line(int i) { return fmt::format("{{\"text\": \"document {}\"}}\n", i); }
  static std::string lines(int count, int first = 0) {
    std::string all;
    for (int i = first; i < first + count; ++i) all += line(i);
    return all;
  }
  static std::uint64_t hash(int i) { return parse_document(line(i), "text", "").hash(); }
  // How many of documents [0, count), which are the lines of input 0, validate.
  static int held_out(const Split& split, int count) {
    int held = 0;
    for (int i = 0; i < count; ++i) held += split.holds_out(0, i + 1, hash(i)) ? 1 : 0;
    return held;
  }
  TempDir dir;
};

TEST_F(SplitTest, ManyLinesMeetTheFraction) {
  write_file(dir / "a.jsonl", lines(5000));
  for (const double fraction : {0.05, 0.1, 0.5, 0.9}) {
    const Split chosen = split({"a.jsonl"}, fraction);
    EXPECT_EQ(chosen.exception.line, -1);
    EXPECT_NEAR(held_out(chosen, 5000) / 5000.0, fraction, 0.02);
  }
}

// At fractions where all hashes fall on one side, one document is put on the other.
TEST_F(SplitTest, BothSidesGetALine) {
  for (const int count : {2, 3, 20}) {
    write_file(dir / "a.jsonl", lines(count));
    for (const double fraction : {1e-12, 0.1, 0.5, 0.9, 0.999999999999}) {
      const int held = held_out(split({"a.jsonl"}, fraction), count);
      EXPECT_GE(held, 1) << count << " " << fraction;
      EXPECT_LT(held, count) << count << " " << fraction;
    }
  }
}

TEST_F(SplitTest, TheExceptionIsTheDocumentNextToTheThreshold) {
  write_file(dir / "a.jsonl", lines(20));
  int lowest = 0, highest = 0;
  for (int i = 1; i < 20; ++i) {
    if (hash(i) < hash(lowest)) lowest = i;
    if (hash(i) > hash(highest)) highest = i;
  }
  const Split few = split({"a.jsonl"}, 1e-12);
  EXPECT_EQ(few.exception.line, lowest + 1);
  EXPECT_TRUE(few.exception.held_out);
  const Split most = split({"a.jsonl"}, 0.999999999999);
  EXPECT_EQ(most.exception.line, highest + 1);
  EXPECT_FALSE(most.exception.held_out);
}

TEST_F(SplitTest, NothingIsHeldOutAtZero) {
  write_file(dir / "a.jsonl", lines(20) + "not JSON, and not looked at");
  write_file(dir / "b.txt", "text");
  const Split chosen = split({"a.jsonl", "b.txt"}, 0.0);
  EXPECT_EQ(held_out(chosen, 20), 0);
  EXPECT_EQ(chosen.train_bytes[1], 4);
}

TEST_F(SplitTest, TheOnlyDocumentOfAllIsDivided) {
  write_file(dir / "a.jsonl", "\n" + line(1) + "\n{\"text\": \"\"}\n");
  EXPECT_TRUE(split({"a.jsonl"}, 0.1).tail_of_line);
  write_file(dir / "b.jsonl", lines(2));
  EXPECT_FALSE(split({"b.jsonl"}, 0.1).tail_of_line);
  EXPECT_FALSE(split({"a.jsonl", "b.jsonl"}, 0.1).tail_of_line);
}

TEST_F(SplitTest, TheOnlyPromptStaysWholeInTraining) {
  const std::string only = R"({"prompt": "a", "completion": "b"})";
  write_file(dir / "a.jsonl", only);
  for (const double fraction : {0.1, 0.999999999999}) {
    const Split chosen = split({"a.jsonl"}, fraction);
    EXPECT_FALSE(chosen.tail_of_line);
    EXPECT_FALSE(chosen.holds_out(0, 1, parse_document(only, "text", "").hash()));
  }
}

TEST_F(SplitTest, TextsAmongLinesAreJudgedLikeLines) {
  std::vector<std::string> names = {"a.jsonl"};
  write_file(dir / "a.jsonl", lines(3));
  int held = 0;
  for (int i = 0; i < 200; ++i) {
    names.push_back(fmt::format("{}.txt", i));
    write_file(dir / names.back(), fmt::format("text {}", i));
  }
  const Split chosen = split(names, 0.3);
  for (std::size_t i = 1; i < names.size(); ++i) held += chosen.train_bytes[i] == 0 ? 1 : 0;
  EXPECT_NEAR(held / 200.0, 0.3, 0.1);
}

TEST_F(SplitTest, TextsAreSplitAlikeCompressedOrNot) {
  std::vector<std::string> plain, compressed;
  for (int i = 0; i < 20; ++i) {
    const std::string text(static_cast<std::size_t>(50 + 13 * i % 40), static_cast<char>('a' + i));
    plain.push_back(fmt::format("{}.txt", i));
    compressed.push_back(fmt::format("{}.txt.gz", i));
    write_file(dir / plain.back(), text);
    write_file(dir / compressed.back(), gzip(text));
  }
  EXPECT_EQ(split(plain, 0.2).train_bytes, split(compressed, 0.2).train_bytes);
  EXPECT_EQ(split({plain[0]}, 0.2).train_bytes, split({compressed[0]}, 0.2).train_bytes);
}

TEST_F(SplitTest, BadLinesAreNamedAndThePeekEndsEarly) {
  write_file(dir / "a.jsonl", line(1) + "\n{\"text\": 1}\n");
  expect_error(ExitCode::kData, {dir / "a.jsonl:3: \"text\" is a number"},
               [&] { split({"a.jsonl"}, 1e-12); });
  write_file(dir / "b.jsonl", lines(100'000) + "bad");
  EXPECT_NO_THROW(split({"b.jsonl"}, 0.5));
}

}  // namespace
}  // namespace lockstep
