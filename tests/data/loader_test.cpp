// Micro-batches of ranks: any world size reads the same global batches, any counter resumes the
// same stream, errors of the reading thread arrive in order.
#include "data/loader.h"

#include "fixture.h"

#include <algorithm>
#include <chrono>
#include <thread>

namespace lockstep {
namespace {

using test::counting;
using test::expect_error;
using test::TempDir;
using test::write_shard;

constexpr std::int64_t kT = 4;
using Tokens = std::vector<std::int32_t>;

class LoaderTest : public ::testing::Test {
 protected:
  LoaderTest() : dataset_(make_dataset()) {}

  Dataset make_dataset() {
    write_shard(dir_ / "a.bin", counting(50 * kT + 1));
    write_shard(dir_ / "b.bin", counting(27 * kT + 3, 1000));
    return Dataset({dir_ / "*.bin"}, "train", kT, /*vocab=*/50000, /*seed=*/5);
  }
  // Inputs of samples [first, first + count), straight from the dataset.
  Tokens stream(std::int64_t first, std::int64_t count) const {
    Tokens inputs(static_cast<std::size_t>(count * kT)), targets(inputs.size());
    for (std::int64_t i = 0; i < count; ++i) {
      dataset_.train_sample(first + i, inputs.data() + i * kT, targets.data() + i * kT);
    }
    return inputs;
  }
  // What all ranks read in `steps` steps, put back into global order.
  Tokens read_all(TrainLoader::Options options, std::int64_t steps) const {
    std::vector<std::unique_ptr<TrainLoader>> ranks;
    for (options.rank = 0; options.rank < options.world; ++options.rank) {
      ranks.push_back(std::make_unique<TrainLoader>(dataset_, options));
    }
    Tokens all;
    for (std::int64_t step = 0; step < steps; ++step) {
      for (const auto& rank : ranks) {
        for (std::int64_t a = 0; a < options.accumulation; ++a) {
          const Batch& batch = rank->next();
          EXPECT_EQ(batch.inputs.size(), static_cast<std::size_t>(options.micro_batch * kT));
          all.insert(all.end(), batch.inputs.begin(), batch.inputs.end());
        }
      }
    }
    return all;
  }
  TempDir dir_;
  Dataset dataset_;
};

TEST_F(LoaderTest, EveryWorldSizeReadsTheSameGlobalBatches) {
  const Tokens expected = stream(0, 24 * 10);  // straddles three epochs of 77
  for (const int world : {1, 2, 3, 4, 6}) {
    for (const std::int64_t micro : {1, 2}) {
      const TrainLoader::Options options{
          .micro_batch = micro, .accumulation = 24 / (world * micro), .world = world};
      EXPECT_EQ(read_all(options, 10), expected) << "world " << world << " micro " << micro;
    }
  }
}

TEST_F(LoaderTest, RanksTakeContiguousBlocksInOrder) {
  const TrainLoader::Options options{
      .micro_batch = 2, .accumulation = 3, .rank = 1, .world = 2, .first_sample = 5};
  TrainLoader loader(dataset_, options);
  for (std::int64_t step = 0; step < 4; ++step) {
    for (std::int64_t a = 0; a < 3; ++a) {
      EXPECT_EQ(loader.next().inputs, stream(5 + (step * 6 + 3 + a) * 2, 2));
    }
  }
}

TEST_F(LoaderTest, ResumesAtAnyCounter) {
  for (const std::int64_t first : {0, 1, 7, 76, 77, 78, 1000, 123456789}) {
    const TrainLoader::Options options{
        .micro_batch = 3, .accumulation = 1, .world = 2, .first_sample = first};
    EXPECT_EQ(read_all(options, 5), stream(first, 30)) << first;
  }
}

TEST_F(LoaderTest, OverfitRepeatsTheFirstGlobalBatch) {
  const TrainLoader::Options options{
      .micro_batch = 2, .accumulation = 2, .world = 2, .first_sample = 40, .overfit = true};
  Tokens expected = stream(0, 8);
  const Tokens once = expected;
  for (int i = 0; i < 2; ++i) expected.insert(expected.end(), once.begin(), once.end());
  EXPECT_EQ(read_all(options, 3), expected);
}

TEST_F(LoaderTest, TargetsFollowInputs) {
  TrainLoader loader(dataset_, {.micro_batch = 8});
  const Batch& batch = loader.next();
  for (std::size_t i = 0; i < batch.inputs.size(); ++i) {
    EXPECT_EQ(batch.targets[i], batch.inputs[i] + 1);
  }
}

TEST_F(LoaderTest, ABatchStaysValidUntilTheNextCall) {
  for (const int depth : {1, 2, 7}) {
    TrainLoader loader(dataset_, {.micro_batch = 2, .depth = depth});
    for (std::int64_t n = 0; n < 40; ++n) {
      const Batch& batch = loader.next();
      if (n % 8 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
      ASSERT_EQ(batch.inputs, stream(n * 2, 2)) << "depth " << depth << " batch " << n;
    }
  }
}

TEST_F(LoaderTest, StopsCleanlyAtAnyMoment) {
  for (int taken = 0; taken < 30; ++taken) {
    TrainLoader loader(dataset_, {.micro_batch = 1, .depth = 3});
    for (int i = 0; i < taken; ++i) loader.next();
  }
}

TEST_F(LoaderTest, WaitingIsCounted) {
  TrainLoader loader(dataset_, {.micro_batch = 4});
  loader.next();
  const double after_first = loader.wait_ms();
  EXPECT_GE(after_first, 0.0);
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 2000; ++i) loader.next();
  const std::chrono::duration<double, std::milli> spent = std::chrono::steady_clock::now() - start;
  EXPECT_GT(loader.wait_ms(), after_first);
  EXPECT_LE(loader.wait_ms(), after_first + spent.count());
}

TEST_F(LoaderTest, ErrorsArriveWhereTheyBelongAndStay) {
  Tokens tokens = counting(4 * kT + 1);
  tokens[9] = 40000;  // an input of sample 2
  write_shard(dir_ / "bad.bin", tokens);
  const Dataset dataset({dir_ / "bad.bin"}, "train", kT, /*vocab=*/1000, /*seed=*/3);
  std::int64_t bad = 0;
  Tokens inputs(kT), targets(kT);
  try {
    for (;; ++bad) dataset.train_sample(bad, inputs.data(), targets.data());
  } catch (const UserError&) {
  }
  TrainLoader loader(dataset, {.micro_batch = 1});
  for (std::int64_t i = 0; i < bad; ++i) EXPECT_NO_THROW(loader.next());
  for (int again = 0; again < 2; ++again) {
    expect_error(ExitCode::kData, {"bad.bin", "token 40000 at position 9"}, [&] { loader.next(); });
  }
}

TEST_F(LoaderTest, RefusesImpossibleOptions) {
  EXPECT_THROW(TrainLoader(dataset_, {.micro_batch = 0}), CheckError);
  EXPECT_THROW(TrainLoader(dataset_, {.rank = 2, .world = 2}), CheckError);
  EXPECT_THROW(TrainLoader(dataset_, {.first_sample = -1}), CheckError);
}

TEST_F(LoaderTest, EvalBatchesAreInFileOrderAndPadded) {
  const Batch full = eval_batch(dataset_, 1, 2, 2, kT);
  EXPECT_EQ(full.inputs, counting(2 * kT, kT));
  EXPECT_EQ(full.targets, counting(2 * kT, kT + 1));
  const Batch padded = eval_batch(dataset_, 50, 1, 3, kT);
  ASSERT_EQ(padded.inputs.size(), 3u * kT);
  EXPECT_EQ(padded.inputs[0], 1000);
  for (std::size_t i = kT; i < 3 * kT; ++i) {
    EXPECT_EQ(padded.inputs[i], 0);
    EXPECT_EQ(padded.targets[i], -1);
  }
  EXPECT_THROW(eval_batch(dataset_, 0, 1, 1, kT + 1), CheckError);
  EXPECT_THROW(eval_batch(dataset_, 0, 2, 1, kT), CheckError);
}

}  // namespace
}  // namespace lockstep
