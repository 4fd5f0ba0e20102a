// From files, globs and prepare directories to shard paths.
#include "data/prepared.h"
#include "fixture.h"

namespace lockstep {
namespace {

using test::expect_error;
using test::TempDir;
using test::write_file;

using Paths = std::vector<std::string>;

class FindShardsTest : public ::testing::Test {
 protected:
  FindShardsTest() {
    for (const char* name : {"p/train_000000.bin", "p/train_000001.bin", "p/train_000001.mask",
                             "p/val_000000.bin", "p/tokenizer/meta.json", "loose/b", "loose/a"}) {
      write_file(dir / name, "x");
    }
  }
  TempDir dir;
};

TEST_F(FindShardsTest, DirectoriesGiveTheirSplit) {
  EXPECT_EQ(find_shards({dir / "p"}, "train"),
            (Paths{dir / "p/train_000000.bin", dir / "p/train_000001.bin"}));
  EXPECT_EQ(find_shards({dir / "p/"}, "val"), Paths{dir / "p/val_000000.bin"});
}

TEST_F(FindShardsTest, GlobsSkipMasksAndAcceptAnyName) {
  EXPECT_EQ(find_shards({dir / "p/train*"}, "train"),
            (Paths{dir / "p/train_000000.bin", dir / "p/train_000001.bin"}));
  EXPECT_EQ(find_shards({dir / "loose/*"}, "train"), (Paths{dir / "loose/a", dir / "loose/b"}));
  EXPECT_EQ(find_shards({dir / "*"}, "val"), Paths{dir / "p/val_000000.bin"});
}

TEST_F(FindShardsTest, SortedAndWithoutDuplicates) {
  EXPECT_EQ(find_shards({dir / "loose/b", dir / "loose/./a", dir / "loose/*"}, "train"),
            (Paths{dir / "loose/a", dir / "loose/b"}));
}

TEST_F(FindShardsTest, NamesWhatMatchesNothing) {
  expect_error(ExitCode::kData, {dir / "loose", "no train_*.bin", "lockstep prepare"}, [&] {
    find_shards({dir / "p", dir / "loose"}, "train");
  });
  std::filesystem::remove(dir / "p/val_000000.bin");
  expect_error(ExitCode::kData, {dir / "p", "no val_*.bin", "--val-fraction"},
               [&] { find_shards({dir / "p"}, "val"); });
  expect_error(ExitCode::kData, {dir / "q*.bin", "no such file", "data.train"},
               [&] { find_shards({dir / "q*.bin"}, "train"); });
  expect_error(ExitCode::kData, {"(empty path)"}, [&] { find_shards({""}, "train"); });
}

TEST_F(FindShardsTest, AFileWithGlobCharactersIsItself) {
  write_file(dir / "odd[1].bin", "x");
  EXPECT_EQ(find_shards({dir / "odd[1].bin"}, "train"), Paths{dir / "odd[1].bin"});
}

TEST_F(FindShardsTest, AHalfPublishedDirectoryIsRefused) {
  write_file(dir / "p/.prepare.tmp/train_000009.bin", "x");
  EXPECT_EQ(find_shards({dir / "p"}, "train").size(), 2u);  // at work, nothing published yet
  write_file(dir / "p/.prepare.tmp/publishing", "");
  expect_error(ExitCode::kData, {dir / "p", "interrupted", "again"},
               [&] { find_shards({dir / "p"}, "train"); });
}

TEST_F(FindShardsTest, NamesOfPreparedFiles) {
  EXPECT_EQ(shard_name("train", 7), "train_000007.bin");
  EXPECT_EQ(shard_name("val", 1234567), "val_1234567.bin");
  EXPECT_EQ(prepared_outputs(dir / "p"), (Paths{"tokenizer", "train_000000.bin", "train_000001.bin",
                                                "train_000001.mask", "val_000000.bin"}));
}

}  // namespace
}  // namespace lockstep
