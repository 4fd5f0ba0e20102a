// The sample stream: windows, permutation by epoch and seed, mixtures, masks, fingerprints, errors.
#include "data/loader.h"

#include "fixture.h"

#include <limits>
#include <map>
#include <set>

namespace lockstep {
namespace {

using test::counting;
using test::expect_error;
using test::TempDir;
using test::write_file;
using test::write_shard;

constexpr std::int64_t kT = 4;
constexpr std::int64_t kVocab = 60000;

struct Sample {
  std::vector<std::int32_t> inputs = std::vector<std::int32_t>(kT);
  std::vector<std::int32_t> targets = std::vector<std::int32_t>(kT);
};

Sample train_sample(const Dataset& dataset, std::int64_t index) {
  Sample sample;
  dataset.train_sample(index, sample.inputs.data(), sample.targets.data());
  return sample;
}

Sample file_sample(const Dataset& dataset, std::int64_t index) {
  Sample sample;
  dataset.file_sample(index, sample.inputs.data(), sample.targets.data());
  return sample;
}

// First tokens of `count` samples in training order: with counting tokens they name the sample.
std::vector<std::int32_t> heads(const Dataset& dataset, std::int64_t first, std::int64_t count) {
  std::vector<std::int32_t> result;
  for (std::int64_t i = 0; i < count; ++i) {
    result.push_back(train_sample(dataset, first + i).inputs[0]);
  }
  return result;
}

class DatasetTest : public ::testing::Test {
 protected:
  Dataset open(const std::vector<std::string>& patterns, std::uint64_t seed = 1,
               std::int64_t seq_len = kT) {
    return Dataset(patterns, "train", seq_len, kVocab, seed);
  }
  TempDir dir;
};

TEST_F(DatasetTest, WindowsAreKTToKTPlusT) {
  const Dataset dataset = open({write_shard(dir / "a.bin", counting(23))});
  EXPECT_EQ(dataset.samples(), 5);  // (23 - 1) / 4
  EXPECT_EQ(dataset.tokens(), 20);
  EXPECT_EQ(dataset.seq_len(), kT);
  for (std::int32_t k = 0; k < 5; ++k) {
    EXPECT_EQ(file_sample(dataset, k).inputs, counting(4, 4 * k));
    EXPECT_EQ(file_sample(dataset, k).targets, counting(4, 4 * k + 1));
  }
  EXPECT_THROW(file_sample(dataset, 5), CheckError);
  EXPECT_THROW(train_sample(dataset, -1), CheckError);
}

TEST_F(DatasetTest, WindowsNeverCrossShards) {
  write_shard(dir / "a.bin", counting(9, 0));        // 2 samples, exactly
  write_shard(dir / "b.bin", counting(4, 100));      // none: one token short
  write_shard(dir / "c.bin", counting(0));           // none at all
  write_shard(dir / "d.bin", counting(12, 200), 4);  // 2 samples, 3 tokens unused
  const Dataset dataset = open({dir / "*.bin"});
  EXPECT_EQ(dataset.samples(), 4);
  EXPECT_EQ(dataset.shards().size(), 4u);
  std::vector<std::int32_t> firsts;
  for (std::int64_t i = 0; i < 4; ++i) firsts.push_back(file_sample(dataset, i).inputs[0]);
  EXPECT_EQ(firsts, (std::vector<std::int32_t>{0, 4, 200, 204}));
}

TEST_F(DatasetTest, EachEpochIsAnotherPermutation) {
  for (const std::size_t samples :
       {std::size_t{1}, std::size_t{2}, std::size_t{5}, std::size_t{64}, std::size_t{1000}}) {
    const Dataset dataset = open({write_shard(dir / "a.bin", counting(samples * kT + 1))});
    const auto n = static_cast<std::int64_t>(samples);
    std::set<std::vector<std::int32_t>> orders;
    for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
      const auto order = heads(dataset, epoch * n, n);
      EXPECT_EQ(std::set(order.begin(), order.end()).size(), samples);
      orders.insert(order);
    }
    EXPECT_TRUE(samples < 64 || orders.size() == 3u);
  }
}

TEST_F(DatasetTest, SeedsGiveOtherOrders) {
  write_shard(dir / "a.bin", counting(200 * kT + 1));
  const auto order = heads(open({dir / "a.bin"}, 1), 0, 200);
  EXPECT_EQ(heads(open({dir / "a.bin"}, 1), 0, 200), order);
  EXPECT_NE(heads(open({dir / "a.bin"}, 2), 0, 200), order);
}

TEST_F(DatasetTest, OrderIsStable) {
  // Checkpoints hold a counter into this order: it must never change.
  const Dataset dataset = open({write_shard(dir / "a.bin", counting(8 * kT + 1))}, 1234);
  EXPECT_EQ(heads(dataset, 0, 16),
            (std::vector<std::int32_t>{4, 0, 8, 24, 28, 20, 16, 12, 4, 0, 12, 8, 16, 20, 24, 28}));
}

TEST_F(DatasetTest, HugeIndicesWrap) {
  const Dataset dataset = open({write_shard(dir / "a.bin", counting(7 * kT + 1))});
  const std::int64_t last = std::numeric_limits<std::int64_t>::max();
  const std::int64_t epoch_start = last / 7 * 7 - 7;
  const auto order = heads(dataset, epoch_start, 7);
  EXPECT_EQ(std::set(order.begin(), order.end()).size(), 7u);
  EXPECT_LT(train_sample(dataset, last).inputs[0], 7 * kT);
}

TEST_F(DatasetTest, MixturesKeepExactProportionsAndOwnEpochs) {
  write_shard(dir / "a.bin", counting(100 * kT + 1, 0));     // heads 0 .. 399
  write_shard(dir / "b.bin", counting(30 * kT + 1, 10000));  // heads 10000 ..
  const Dataset dataset = open({"0.75:" + (dir / "a.bin"), "0.25:" + (dir / "b.bin")});
  EXPECT_EQ(dataset.samples(), 130);
  std::map<std::int32_t, int> from_b;
  for (std::int64_t block = 0; block < 3; ++block) {
    int b = 0;
    for (const std::int32_t head : heads(dataset, block * 1000, 1000)) {
      if (head < 10000) continue;
      ++b;
      ++from_b[head];
    }
    EXPECT_EQ(b, 250);
  }
  // 750 samples of b are exactly 25 of its epochs: every one came equally often.
  EXPECT_EQ(from_b.size(), 30u);
  for (const auto& [head, times] : from_b) EXPECT_EQ(times, 25) << head;
  EXPECT_EQ(file_sample(dataset, 100).inputs[0], 10000);
}

TEST_F(DatasetTest, MixtureMistakesAreNamed) {
  write_shard(dir / "a.bin", counting(100));
  const std::string a = dir / "a.bin";
  expect_error(ExitCode::kConfig, {"data.train", "1 of 2 entries"}, [&] { open({"0.5:" + a, a}); });
  expect_error(ExitCode::kConfig, {"data.train", "gives it no sample in 1000"}, [&] {
    open({"1e6:" + a, "1:" + a});
  });
  expect_error(ExitCode::kConfig, {"data.train names nothing"}, [&] { open({}); });
  write_shard(dir / "short.bin", counting(3));
  expect_error(ExitCode::kData, {"short.bin", "too short", "3 tokens", "5 needed"}, [&] {
    open({"0.5:" + a, "0.5:" + (dir / "short.bin")});
  });
}

TEST_F(DatasetTest, MaskedTargetsAreMinusOne) {
  const std::int64_t seq_len = 1500;  // more than one block of the mask reader
  std::vector<std::uint8_t> mask(2 * seq_len + 1);
  for (std::size_t i = 0; i < mask.size(); ++i) mask[i] = i % 3 == 0 ? 0 : 1;
  ShardWriter writer(dir / "a.bin", 2, /*with_mask=*/true);
  writer.append(counting(mask.size()), mask);
  writer.close();
  const Dataset dataset = open({dir / "a.bin"}, 1, seq_len);
  std::vector<std::int32_t> inputs(seq_len), targets(seq_len);
  for (std::int32_t k = 0; k < 2; ++k) {
    dataset.file_sample(k, inputs.data(), targets.data());
    for (std::int32_t i = 0; i < seq_len; ++i) {
      const std::int32_t position = k * 1500 + i + 1;
      ASSERT_EQ(targets[static_cast<std::size_t>(i)], position % 3 == 0 ? -1 : position);
      ASSERT_EQ(inputs[static_cast<std::size_t>(i)], position - 1);  // inputs are never masked
    }
  }
}

TEST_F(DatasetTest, TooShortNamesSplitFoundAndNeeded) {
  write_shard(dir / "val_000000.bin", counting(10));
  expect_error(ExitCode::kData,
               {"data.val", dir.path(), "10 tokens", "65 needed", "lower model.seq_len"},
               [&] { Dataset({dir.path()}, "val", 64, kVocab, 1); });
}

TEST_F(DatasetTest, TooShortNamesTheFirstOfSeveralEntries) {
  write_shard(dir / "a.bin", counting(2));
  write_shard(dir / "b.bin", counting(3));
  expect_error(ExitCode::kData, {dir / "a.bin", "and 1 more", "3 tokens", "5 needed"}, [&] {
    open({dir / "a.bin", dir / "b.bin"});
  });
}

TEST_F(DatasetTest, TokensAboveTheVocabularyAreFoundOnRead) {
  write_shard(dir / "a.bin", {1, 2, 3, 4, 77});
  const Dataset dataset({dir / "a.bin"}, "train", kT, /*vocab=*/77, 1);
  expect_error(ExitCode::kData, {"a.bin", "token 77 at position 4", "vocabulary of 77"},
               [&] { train_sample(dataset, 0); });
}

TEST_F(DatasetTest, FingerprintFollowsContentAndWeightsNotPaths) {
  std::filesystem::create_directory(dir / "x");
  write_shard(dir / "x/a.bin.1", counting(50));
  write_shard(dir / "x/b.bin.1", counting(60));
  std::filesystem::copy(dir / "x", dir / "y");
  const std::string both = open({dir / "x/*"}).fingerprint();
  EXPECT_EQ(open({dir / "y/*"}).fingerprint(), both);
  EXPECT_EQ(open({dir / "y/b*", dir / "y/a*"}, 99).fingerprint(), both);
  EXPECT_NE(open({dir / "x/a*"}).fingerprint(), both);
  const std::string even = open({"1:" + (dir / "x/a*"), "1:" + (dir / "x/b*")}).fingerprint();
  EXPECT_NE(even, both);
  EXPECT_EQ(open({"2:" + (dir / "y/a*"), "2:" + (dir / "y/b*")}).fingerprint(), even);
  EXPECT_NE(open({"1:" + (dir / "x/a*"), "2:" + (dir / "x/b*")}).fingerprint(), even);
  write_shard(dir / "y/a.bin.1", counting(50, 1));
  EXPECT_NE(open({dir / "y/*"}).fingerprint(), both);
}

TEST_F(DatasetTest, MovesWithoutLosingItsShards) {
  Dataset first = open({write_shard(dir / "a.bin", counting(23))});
  const Dataset second = std::move(first);
  EXPECT_EQ(file_sample(second, 1).inputs[0], 4);
}

}  // namespace
}  // namespace lockstep
