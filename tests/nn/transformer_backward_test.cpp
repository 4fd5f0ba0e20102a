// Backward: gradients against finite differences of the model's own loss, and their order.
#include "nn/transformer_rig.h"

#include <cmath>

namespace lockstep {
namespace {

using namespace test;

class Backward : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, Backward, testing::Values("gpt2", "llama", "qwen2"));

// Central differences along random directions: one directional derivative per parameter, so every
// element counts. The loss sum is about 60 with rounding noise near 60 * 2^-23 * 10; the step is
// chosen so that noise / step and the cubic term both stay below 1%.
void expect_gradients(const ModelConfig& config) {
  test::Machine machine = test::open_cpu();
  Rig rig(machine, config, training_plan());
  ParameterSet& parameters = rig.model->parameters();
  parameters.initialize(11, 1, rig.stream);
  rig.loss_sum(/*with_gradient=*/true);
  const std::vector<float> grads = rig.read(parameters.grads());
  auto* weights = parameters.masters().as<float>();
  for (std::size_t p = 0; p < parameters.all().size(); ++p) {
    const Parameter& parameter = parameters[p];
    const auto n = static_cast<std::size_t>(parameter.count());
    const auto at = static_cast<std::size_t>(parameter.offset);
    const std::vector<double> direction = test::random_values(parameter.count(), 100 + p);
    const double step = 2e-2 / std::sqrt(static_cast<double>(n));
    double analytic = 0.0;
    std::vector<float> saved(weights + at, weights + at + n);
    double loss[2];
    for (int side = 0; side < 2; ++side) {
      for (std::size_t i = 0; i < n; ++i) {
        weights[at + i] = saved[i] + static_cast<float>((side == 0 ? step : -step) * direction[i]);
      }
      loss[side] = rig.loss_sum(/*with_gradient=*/false);
    }
    std::copy(saved.begin(), saved.end(), weights + at);
    double norm = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
      analytic += direction[i] * grads[at + i];
      norm += static_cast<double>(grads[at + i]) * grads[at + i];
    }
    const double numeric = (loss[0] - loss[1]) / (2.0 * step);
    // |directional derivative| is of the order of the gradient's norm times the direction's rms.
    const double scale = std::max(1.0, std::sqrt(norm));
    EXPECT_NEAR(numeric, analytic, 0.02 * scale) << parameter.name;
    EXPECT_GT(norm, 0.0) << parameter.name;
  }
}

TEST_P(Backward, GradientsMatchFiniteDifferences) { expect_gradients(small(GetParam())); }

// Masked targets count nowhere, and a second micro-batch adds to gradients and totals.
TEST_P(Backward, MicroBatchesAccumulate) {
  test::Machine machine = test::open_cpu();
  Rig rig(machine, small(GetParam()), training_plan());
  rig.model->parameters().initialize(11, 1, rig.stream);
  const double once = rig.loss_sum(/*with_gradient=*/true);
  EXPECT_EQ(rig.counted, 14.0);  // 18 less every fifth
  const std::vector<float> first = rig.read(rig.model->parameters().grads());
  EXPECT_EQ(rig.loss_sum(/*with_gradient=*/true), once);
  const std::vector<float> second = rig.read(rig.model->parameters().grads());
  double worst = 0.0;
  for (std::size_t i = 0; i < first.size(); ++i) {
    worst = std::max(worst, std::abs(static_cast<double>(second[i]) - 2.0 * first[i]));
  }
  EXPECT_LT(worst, 1e-4);  // gradients up to about 10: a few roundings of 2^-24 * 10
  EXPECT_EQ(rig.loss_sum(/*with_gradient=*/false), once);  // the same arithmetic without gradients
}

// Sizes that no tile divides: 5 heads of 6, 37 wide.
TEST_P(Backward, OddSizesMatchFiniteDifferences) {
  ModelConfig config = small(GetParam());
  config.heads = config.kv_heads = 5;
  config.hidden = 30;
  config.head_dim = 6;
  config.ffn = 37;
  resolve(config, /*tokenizer_vocab=*/0);
  expect_gradients(config);
}

// Ranges come in ascending order, without gaps, and cover the flat gradient.
TEST_P(Backward, GradientReadyCoversEverythingOnce) {
  test::Machine machine = test::open_cpu();
  Rig rig(machine, small(GetParam()), training_plan());
  rig.model->parameters().initialize(11, 1, rig.stream);
  std::int64_t done = 0;
  int calls = 0;
  rig.model->forward_backward(
      rig.batch, static_cast<StepState*>(rig.state.data), rig.totals,
      [&](std::int64_t begin, std::int64_t end) {
        EXPECT_EQ(begin, done);
        EXPECT_GT(end, begin);
        done = end;
        ++calls;
      },
      rig.stream);
  EXPECT_EQ(done, rig.model->parameters().flat_count());
  EXPECT_GE(calls, 3);
}

}  // namespace
}  // namespace lockstep
