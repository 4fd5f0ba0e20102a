// Headers: the magic numbers of llm.c, counts above 2^31 - 1, and each way a header can be wrong.
#include "data/shard_format.h"

#include "fixture.h"

namespace lockstep {
namespace {

using test::expect_error;

TEST(ShardFormat, HeadersAreThoseOfLlmC) {
  const ShardHeader two = make_shard_header(2, 100);
  EXPECT_EQ(two[0], 20240520);
  EXPECT_EQ(two[1], 1);
  EXPECT_EQ(two[2], 100);
  const ShardHeader four = make_shard_header(4, 7);
  EXPECT_EQ(four[0], 20240801);
  EXPECT_EQ(four[1], 7);
  EXPECT_EQ(four[2], 7);
  for (std::size_t i = 3; i < two.size(); ++i) EXPECT_EQ(two[i], 0);
  EXPECT_THROW(make_shard_header(3, 1), CheckError);
}

TEST(ShardFormat, LargeCountsAreLeftToTheFileSize) {
  EXPECT_EQ(make_shard_header(2, kMaxHeaderCount)[2], 0x7fffffff);
  const std::int64_t large = kMaxHeaderCount + 1;
  const ShardHeader header = make_shard_header(4, large);
  EXPECT_EQ(header[2], -1);
  const ShardLayout layout = parse_shard_header(header, kShardHeaderBytes + 4 * large, "x");
  EXPECT_EQ(layout.tokens, large);
  EXPECT_EQ(layout.bytes_per_token, 4);
  EXPECT_EQ(layout.format, "llm.c uint32");
}

TEST(ShardFormat, ALargeCountCannotHideATruncation) {
  const ShardHeader header = make_shard_header(2, kMaxHeaderCount + 1);
  for (const std::int64_t payload :
       {std::int64_t{0}, std::int64_t{100}, 2 * kMaxHeaderCount, 2 * kMaxHeaderCount + 3}) {
    expect_error(ExitCode::kData, {"x.bin: truncated", std::to_string(payload), "again"},
                 [&] { parse_shard_header(header, kShardHeaderBytes + payload, "x.bin"); });
  }
}

TEST(ShardFormat, NamesWhatIsWrong) {
  ShardHeader header = make_shard_header(2, 10);
  header[1] = 2;
  expect_error(ExitCode::kData, {"x.bin", "version 2", "only version 1"},
               [&] { parse_shard_header(header, kShardHeaderBytes + 20, "x.bin"); });
  header[1] = 1;
  header[2] = -2;
  expect_error(ExitCode::kData, {"x.bin", "announces -2 tokens"},
               [&] { parse_shard_header(header, kShardHeaderBytes + 20, "x.bin"); });
  header[0] = 20240326;
  expect_error(ExitCode::kData, {"x.bin", "not a token shard", "20240326", "20240520", "20240801"},
               [&] { parse_shard_header(header, kShardHeaderBytes + 20, "x.bin"); });
}

TEST(ShardFormat, MaskStandsBesideTheShard) {
  EXPECT_EQ(mask_path("a/b.bin"), "a/b.mask");
  EXPECT_EQ(mask_path("a.b/c"), "a.b/c.mask");
}

}  // namespace
}  // namespace lockstep
