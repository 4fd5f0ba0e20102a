// Two models side by side: as each is alone, and the same bits whatever the number of ranks.
#include "eval/comparer.h"

#include "comm/mpi_main.h"
#include "eval/fixture.h"
#include "eval/judge.h"

namespace lockstep {
namespace {

using test::DrawnWeights;
using test::TempDir;
using test::tiny_data;

std::optional<Comparison> compare(const Dataset& data, std::int64_t batch, World& world,
                                  const std::function<bool()>& stop = {}) {
  test::Machine machine = test::open_cpu();
  Arena arena(*machine.device);
  const auto model = test::open_model(machine, arena, batch);
  const auto reference = test::open_model(machine, arena, batch);
  model->parameters().initialize(/*seed=*/3, /*threads=*/1, *machine.stream);
  reference->parameters().initialize(/*seed=*/4, /*threads=*/1, *machine.stream);
  Comparer comparer(arena, *machine.device, batch, test::kSeqLen);
  return comparer.run(*model, *reference, data, 0, world, stop, *machine.stream);
}

TEST(Comparer, TheNumberOfRanksDoesNotMatter) {
  const TempDir folder;
  const Dataset data = tiny_data(folder, 37);
  const auto all = make_mpi_world(30.0);
  const auto alone = make_self_world();
  const auto expected = compare(data, 2, *alone);
  const auto result = compare(data, 2, *all);
  ASSERT_TRUE(expected && result);
  EXPECT_EQ(result->model.loss, expected->model.loss);
  EXPECT_EQ(result->loss_change.within, expected->loss_change.within);
  EXPECT_EQ(result->divergence.value, expected->divergence.value);
  EXPECT_EQ(result->divergence_999, expected->divergence_999);
  EXPECT_EQ(result->same_top, expected->same_top);
}

TEST(Comparer, AVoteOfOneRankEndsIt) {
  const TempDir folder;
  const auto all = make_mpi_world(30.0);
  const bool last = all->rank() == all->size() - 1;
  EXPECT_FALSE(compare(tiny_data(folder, 7), 1, *all, [&] { return last; }).has_value());
}

TEST(Comparer, AgreesWithJudgingEachAlone) {
  const TempDir folder;
  test::Machine machine = test::open_cpu();
  const auto world = make_self_world();
  Judge judge(*machine.device, *world, tiny_data(folder, 5), {.batch = 2}, {});
  const ModelConfig config = test::tiny_model();
  DrawnWeights first(3), second(4);
  const JudgedModel a{.config = config, .weights = first};
  const JudgedModel b{.config = config, .weights = second};
  const auto both = judge.compare(a, b);
  ASSERT_TRUE(both);
  const auto alone = judge.run(a);
  const auto other = judge.run(b);
  EXPECT_NEAR(both->model.loss, alone->loss, 1e-6);
  EXPECT_NEAR(both->reference.loss, other->loss, 1e-6);
  EXPECT_EQ(both->model.accuracy, alone->accuracy);
  EXPECT_EQ(both->reference.accuracy, other->accuracy);
  EXPECT_GT(both->divergence.value, 0.0);
  EXPECT_GE(both->divergence_999, both->divergence.value);
  const auto itself = judge.compare(a, a);
  EXPECT_EQ(itself->divergence.value, 0.0);
  EXPECT_EQ(itself->divergence_999, 0.0);
  EXPECT_EQ(itself->same_top, 1.0);
  EXPECT_EQ(itself->loss_change.value, 0.0);
  EXPECT_EQ(itself->loss_change.within, 0.0);
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) { return lockstep::run_mpi_tests(argc, argv); }
