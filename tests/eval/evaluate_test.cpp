// The evaluator: the same bits whatever the number of ranks, the same answer whatever the batch,
// the first samples only, masks, and a stop.
#include "eval/evaluate.h"

#include "comm/mpi_main.h"
#include "eval/fixture.h"

namespace lockstep {
namespace {

using test::TempDir;
using test::tiny_data;

// On the ranks of `world`, or alone.
std::optional<Evaluation> evaluate(const Dataset& data, std::int64_t batch, std::int64_t samples,
                                   const std::function<bool()>& stop = {}, World* world = nullptr) {
  test::Machine machine = test::open_cpu();
  Arena arena(*machine.device);
  const auto model = test::open_model(machine, arena, batch);
  model->parameters().initialize(/*seed=*/3, /*threads=*/1, *machine.stream);
  Evaluator evaluator(EvalBuffers(arena, batch, test::kSeqLen), *machine.device);
  const auto alone = make_self_world();
  return evaluator.run(*model, data, samples, world == nullptr ? *alone : *world, stop,
                       *machine.stream);
}

TEST(Evaluator, TheNumberOfRanksDoesNotMatter) {
  const TempDir folder;
  const Dataset data = tiny_data(folder, 75);  // 38 micro-batches, the last one half full
  const auto all = make_mpi_world(30.0);
  const auto expected = evaluate(data, 2, 0);
  const auto result = evaluate(data, 2, 0, {}, all.get());
  ASSERT_TRUE(expected && result);
  EXPECT_EQ(result->loss, expected->loss);
  EXPECT_EQ(result->accuracy, expected->accuracy);
  EXPECT_EQ(result->tokens, expected->tokens);
}

TEST(Evaluator, AVoteOfOneRankEndsIt) {
  const TempDir folder;
  const auto all = make_mpi_world(30.0);
  const bool last = all->rank() == all->size() - 1;
  EXPECT_FALSE(evaluate(
                   tiny_data(folder, 7), 1, 0, [&] { return last; }, all.get())
                   .has_value());
}

TEST(Evaluator, TheBatchDoesNotMatter) {
  const TempDir folder;
  const Dataset data = tiny_data(folder, 7);
  const auto one = evaluate(data, 1, 0), three = evaluate(data, 3, 0);
  ASSERT_TRUE(one && three);
  EXPECT_EQ(one->tokens, 7 * test::kSeqLen);
  EXPECT_EQ(three->tokens, one->tokens);
  // Sums of 112 fp32 losses near 4, grouped in two ways.
  EXPECT_NEAR(three->loss, one->loss, 112 * 4 * 0x1p-24);
  EXPECT_EQ(three->accuracy, one->accuracy);
  EXPECT_NEAR(one->loss, std::log(test::kVocab), 0.5);  // weights that know nothing
}

TEST(Evaluator, JudgesTheFirstSamples) {
  const TempDir folder;
  const Dataset data = tiny_data(folder, 7);
  EXPECT_EQ(evaluate(data, 2, 3)->tokens, 3 * test::kSeqLen);
  EXPECT_EQ(evaluate(data, 2, 100)->tokens, 7 * test::kSeqLen);
}

TEST(Evaluator, AStopLeavesNoAnswer) {
  const TempDir folder;
  EXPECT_FALSE(evaluate(tiny_data(folder, 2), 1, 0, [] { return true; }).has_value());
}

TEST(Evaluator, DataWithoutATargetIsRefused) {
  const TempDir folder;
  test::write_shard(folder / "a.bin", test::counting(2 * test::kSeqLen + 1));
  test::write_file(folder / "a.mask", std::string(2 * test::kSeqLen + 1, '\0'));
  const Dataset data({folder / "a.bin"}, "val", test::kSeqLen, test::kVocab, 0);
  test::expect_error(ExitCode::kData, {"no target to judge"}, [&] { evaluate(data, 1, 0); });
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) { return lockstep::run_mpi_tests(argc, argv); }
