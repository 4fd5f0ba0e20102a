// Pieces: nothing is lost or doubled at any size, cuts are where the tokenizer allows them, and no
// input makes a piece without bound.
#include "data/pieces.h"

#include "compress.h"
#include "fixture.h"

namespace lockstep {
namespace {

using test::expect_error;
using test::gzip;
using test::TempDir;
using test::write_file;

class PiecesTest : public ::testing::Test {
 protected:
  TextInput input(const std::string& name, const std::string& content) {
    write_file(dir / name, content);
    TextInput result = std::move(find_inputs({dir / name}).front());
    if (result.bytes < 0 && result.format == TextFormat::kText) measure(result, [](auto) {});
    return result;
  }
  // Just behind the last space.
  static std::size_t after_space(std::string_view text) { return text.rfind(' ') + 1; }
  static std::string words(std::size_t bytes) {
    std::string text;
    for (std::size_t i = 0; text.size() < bytes; ++i) text += std::to_string(i * i) + " ";
    return text;
  }
  TempDir dir;
};

TEST_F(PiecesTest, TextsAreCutWhereTheTokenizerAllows) {
  const std::string text = words(2'000'000) + "end";
  for (const TextInput& from : {input("a.txt", text), input("a.txt.gz", gzip(text))}) {
    PieceReader reader(from);
    Piece piece;
    std::string all;
    std::int64_t stored = 0;
    int count = 0;
    while (reader.next_text(piece, from.bytes, after_space)) {
      EXPECT_LE(piece.bytes.size(), std::size_t{256} << 10);
      all += piece.bytes;
      stored += piece.stored;
      EXPECT_TRUE(piece.bytes.back() == ' ' || reader.position() == from.bytes);
      ++count;
    }
    EXPECT_EQ(all, text);
    EXPECT_GT(count, 6);
    EXPECT_LE(stored, from.stored);
    EXPECT_GT(stored, from.stored * 9 / 10);
  }
}

TEST_F(PiecesTest, APieceEndsAtTheGivenByteAndTheNextBeginsThere) {
  const TextInput from = input("a.txt", "one two three");
  PieceReader reader(from);
  Piece piece;
  ASSERT_TRUE(reader.next_text(piece, 5, after_space));
  EXPECT_EQ(piece.bytes, "one t");
  EXPECT_FALSE(reader.next_text(piece, 5, after_space));
  ASSERT_TRUE(reader.next_text(piece, 13, after_space));
  EXPECT_EQ(piece.bytes, "wo three");
  EXPECT_FALSE(reader.next_text(piece, 13, after_space));
}

TEST_F(PiecesTest, APieceGrowsUntilItCanBeCut) {
  const std::string text = std::string(3'000'000, 'x') + " " + std::string(2'000'000, 'y');
  const TextInput from = input("a.txt", text);
  PieceReader reader(from);
  Piece piece;
  ASSERT_TRUE(reader.next_text(piece, from.bytes, after_space));
  EXPECT_EQ(piece.bytes, text.substr(0, 3'000'001));
  ASSERT_TRUE(reader.next_text(piece, from.bytes, after_space));
  EXPECT_EQ(piece.bytes, text.substr(3'000'001));
}

TEST_F(PiecesTest, WhatCannotBeCutIsRefusedBeforeItFillsTheMemory) {
  const TextInput text =
      input("a.txt.gz", gzip("head " + std::string(70 << 20, 'x') + " ", /*level=*/1));
  PieceReader reader(text);
  Piece piece;
  ASSERT_TRUE(reader.next_text(piece, text.bytes, after_space));
  expect_error(ExitCode::kData, {"a.txt.gz: 64 MiB from byte 5 on", "break the text"},
               [&] { reader.next_text(piece, text.bytes, after_space); });

  const TextInput lines =
      input("b.jsonl.gz", gzip("{}\n{}\n" + std::string(70 << 20, ' '), /*level=*/1));
  PieceReader line_reader(lines);
  ASSERT_TRUE(line_reader.next_lines(piece));
  EXPECT_EQ(piece.bytes, "{}\n{}\n");
  expect_error(ExitCode::kData, {"b.jsonl.gz:3: a line of more than 64 MiB", ".txt file"},
               [&] { line_reader.next_lines(piece); });
}

TEST_F(PiecesTest, AFileThatShrankIsNamed) {
  const TextInput from = input("a.txt", "one two three");
  std::filesystem::resize_file(dir / "a.txt", 5);
  PieceReader reader(from);
  Piece piece;
  expect_error(ExitCode::kData, {"a.txt: ends at byte 5", "run again"},
               [&] { reader.next_text(piece, from.bytes, after_space); });
}

TEST_F(PiecesTest, LinesStayWholeAndKeepTheirNumbers) {
  std::string text;
  for (int i = 1; i <= 100'000; ++i) text += fmt::format("{}\n{}", i, i % 10 == 0 ? " \r\n" : "");
  text += "last";
  for (const TextInput& from : {input("a.jsonl", text), input("a.jsonl.gz", gzip(text))}) {
    PieceReader reader(from);
    Piece piece;
    std::vector<std::string> lines;
    int pieces = 0;
    while (reader.next_lines(piece)) {
      ++pieces;
      for_each_line(piece, [&](std::string_view line, std::int64_t number) {
        lines.emplace_back(line);
        const auto i = static_cast<std::int64_t>(lines.size());
        EXPECT_EQ(number, i + (i - 1) / 10);
      });
    }
    EXPECT_GT(pieces, 2);
    ASSERT_EQ(lines.size(), 100'001u);
    EXPECT_EQ(lines.front(), "1");
    EXPECT_EQ(lines[99'999], "100000");
    EXPECT_EQ(lines.back(), "last");
  }
}

}  // namespace
}  // namespace lockstep
