// Inputs in order, each piece with the side that it is for.
#include "data/corpus_reader.h"

#include "fixture.h"

namespace lockstep {
namespace {

using test::TempDir;
using test::write_file;

TEST(CorpusReader, TextsAreCutBetweenTheSidesAndLinesAreNot) {
  const TempDir dir;
  write_file(dir / "a.txt", "training|validation");
  write_file(dir / "b.jsonl", "{\"text\": \"x\"}\n");
  const auto inputs = find_inputs({dir / "a.txt", dir / "b.jsonl"});
  Split split;
  split.train_bytes = {8, 0};
  CorpusReader reader(inputs, split, [](std::string_view text) { return text.size(); });
  CorpusJob job;
  ASSERT_TRUE(reader.next(job));
  EXPECT_EQ(job.piece.bytes, "training");
  EXPECT_FALSE(job.held_out || job.ends_document || job.lines);
  ASSERT_TRUE(reader.next(job));
  EXPECT_EQ(job.piece.bytes, "|validation");
  EXPECT_TRUE(job.held_out && job.ends_document);
  ASSERT_TRUE(reader.next(job));
  EXPECT_EQ(job.input, 1U);
  EXPECT_TRUE(job.lines);
  EXPECT_EQ(job.piece.first_line, 1);
  EXPECT_FALSE(reader.next(job));
}

}  // namespace
}  // namespace lockstep
