// Tokens fill shard after shard; a mask comes with the first token that does not count.
#include "data/shard_series.h"

#include "fixture.h"

namespace lockstep {
namespace {

using test::TempDir;

TEST(ShardSeries, ShardsEndAtTheLimit) {
  const TempDir dir;
  const Staging staging(dir / "out", /*overwrite=*/false);
  ShardSeries series(staging, "train", /*bytes_per_token=*/2, /*limit=*/4);
  TokenRun run;
  for (const std::int32_t id : {1, 2, 3, 4, 5, 6}) run.ids.push_back(id);
  series.append(run);
  series.finish();
  EXPECT_EQ(series.tokens(), 6);
  EXPECT_EQ(series.masked(), 0);
  EXPECT_EQ(series.names(), (std::vector<std::string>{"train_000000.bin", "train_000001.bin"}));
  EXPECT_EQ(test::tokens_of(staging.path("train_000001.bin")), (std::vector<std::int32_t>{5, 6}));
}

TEST(ShardSeries, MaskedTokensBringAMask) {
  const TempDir dir;
  const Staging staging(dir / "out", /*overwrite=*/false);
  ShardSeries series(staging, "val", /*bytes_per_token=*/4, /*limit=*/100);
  TokenRun run;
  run.ids = {7};
  run.mark(0, /*counts=*/true);
  EXPECT_TRUE(run.mask.empty());
  run.ids.push_back(8);
  run.mark(1, /*counts=*/false);
  EXPECT_EQ(run.mask, (std::vector<std::uint8_t>{1, 0}));
  series.append(run);
  series.finish();
  EXPECT_EQ(series.masked(), 1);
  EXPECT_EQ(series.names(), (std::vector<std::string>{"val_000000.mask", "val_000000.bin"}));
}

}  // namespace
}  // namespace lockstep
