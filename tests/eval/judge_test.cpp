// The judge gives what an evaluator gives, of one model after another.
#include "eval/judge.h"

#include "eval/evaluate.h"
#include "eval/fixture.h"

#include <cmath>

namespace lockstep {
namespace {

using test::DrawnWeights;
using test::TempDir;
using test::tiny_data;

TEST(Judge, AsksEveryModelTheSame) {
  const TempDir folder;
  test::Machine machine = test::open_cpu();
  const auto world = make_self_world();
  Judge judge(*machine.device, *world, tiny_data(folder, 5), {.batch = 2}, [] { return false; });
  const ModelConfig config = test::tiny_model();
  DrawnWeights first(3), second(4);
  const auto one = judge.run({.config = config, .weights = first});
  const auto other = judge.run({.config = config, .weights = second});
  const auto again = judge.run({.config = config, .weights = first});
  ASSERT_TRUE(one && other && again);
  EXPECT_EQ(one->tokens, 5 * test::kSeqLen);
  EXPECT_EQ(again->loss, one->loss);
  EXPECT_NE(other->loss, one->loss);

  Arena arena(*machine.device);
  const auto model = test::open_model(machine, arena, 2);
  model->parameters().initialize(3, 1, *machine.stream);
  Evaluator evaluator(EvalBuffers(arena, 2, test::kSeqLen), *machine.device);
  const auto direct = evaluator.run(*model, tiny_data(folder, 5), 0, *world, {}, *machine.stream);
  EXPECT_EQ(one->loss, direct->loss);
  EXPECT_EQ(one->accuracy, direct->accuracy);
}

TEST(Judge, AStopLeavesNoAnswer) {
  const TempDir folder;
  test::Machine machine = test::open_cpu();
  const auto world = make_self_world();
  Judge judge(*machine.device, *world, tiny_data(folder, 2), {}, [] { return true; });
  DrawnWeights weights(3);
  EXPECT_FALSE(judge.run({.config = test::tiny_model(), .weights = weights}).has_value());
}

TEST(Judge, NamesTheTensorThatIsNotFinite) {
  const TempDir folder;
  test::Machine machine = test::open_cpu();
  const auto world = make_self_world();
  Judge judge(*machine.device, *world, tiny_data(folder, 2), {}, {});
  const ModelConfig config = test::tiny_model();
  for (const float bad : {std::nanf(""), HUGE_VALF}) {
    DrawnWeights weights(3);
    weights.spoil("model.layers.0.mlp.up_proj.weight", 7, bad);
    test::expect_error(
        ExitCode::kData, {"runs/x step 3: tensor model.layers.0.mlp.up_proj.weight holds "},
        [&] { judge.run({.config = config, .weights = weights, .name = "runs/x step 3"}); });
  }
  DrawnWeights large(3);
  large.spoil("model.norm.weight", 0, 3e38f);
  test::expect_error(ExitCode::kData, {"m: its loss is not finite", "fp32"},
                     [&] { judge.run({.config = config, .weights = large, .name = "m"}); });
  DrawnWeights sound(3);
  test::expect_error(ExitCode::kData, {"m: its loss is not finite", "fp32"}, [&] {
    judge.compare({.config = config, .weights = large, .name = "m"},
                  {.config = config, .weights = sound, .name = "r"});
  });
}

}  // namespace
}  // namespace lockstep
