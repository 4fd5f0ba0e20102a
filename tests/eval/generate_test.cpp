// Sampling: greedy, top-k, top-p, the seed; and text that outgrows the context.
#include "eval/generate.h"

#include "eval/fixture.h"

#include <algorithm>
#include <cmath>

namespace lockstep {
namespace {

const std::vector<float> kLogits = {0.0f, 2.0f, 1.0f, -1.0f, 1.5f};

TEST(Sample, TemperatureZeroTakesTheLargest) {
  EXPECT_EQ(sample(kLogits, {.temperature = 0.0}, 0), 1);
  EXPECT_EQ(sample({1.0f, 3.0f, 3.0f}, {.temperature = 0.0}, 9), 1);  // the first of equals
}

std::vector<int> counts(const SamplingOptions& options, int draws) {
  std::vector<int> seen(kLogits.size(), 0);
  for (int i = 0; i < draws; ++i) ++seen[static_cast<std::size_t>(sample(kLogits, options, i))];
  return seen;
}

TEST(Sample, FrequenciesFollowTheSoftmax) {
  const int draws = 20000;
  for (const double temperature : {1.0, 0.5}) {
    const std::vector<int> seen = counts({.temperature = temperature, .seed = 3}, draws);
    double total = 0.0;
    for (const float logit : kLogits) total += std::exp(logit / temperature);
    for (std::size_t i = 0; i < kLogits.size(); ++i) {
      const double p = std::exp(kLogits[i] / temperature) / total;
      // Five standard deviations of a binomial count.
      EXPECT_NEAR(seen[i], p * draws, 5.0 * std::sqrt(draws * p * (1.0 - p)) + 1.0) << i;
    }
  }
}

TEST(Sample, CutsTheTail) {
  const std::vector<int> top2 = counts({.top_k = 2, .seed = 1}, 2000);
  EXPECT_EQ(top2[0] + top2[2] + top2[3], 0);
  EXPECT_GT(top2[1], 0);
  EXPECT_GT(top2[4], 0);
  // The largest alone holds 0.45 of the probability; with the next, 0.73.
  const std::vector<int> half = counts({.top_p = 0.5, .seed = 1}, 2000);
  EXPECT_EQ(half[0] + half[2] + half[3], 0);
  EXPECT_GT(half[4], 0);
  const std::vector<int> nucleus = counts({.top_p = 0.1, .seed = 1}, 200);
  EXPECT_EQ(nucleus[1], 200);
}

TEST(Sample, DependsOnSeedAndPositionOnly) {
  std::vector<std::int32_t> a, b, c;
  for (int i = 0; i < 50; ++i) {
    a.push_back(sample(kLogits, {.seed = 4}, i));
    b.push_back(sample(kLogits, {.seed = 4}, i));
    c.push_back(sample(kLogits, {.seed = 5}, i));
  }
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
}

TEST(Generate, GoesOnWhenTheContextIsFull) {
  ModelConfig config;
  config.preset = "qwen2-tiny";
  config.layers = 1;
  config.seq_len = 16;
  resolve(config, 64);
  test::Machine machine = test::open_cpu();
  Arena arena(*machine.device);
  const auto model = make_model(
      config,
      {.mode = ModelPlan::Mode::kInference, .seq_len = 16, .sequences = 1, .sequence_tokens = 16},
      arena, &machine.device->kernels().scratch_bytes);
  model->parameters().initialize(2, 1, *machine.stream);
  const auto run = [&](std::int64_t tokens, std::int64_t stop_after,
                       const std::vector<std::int32_t>& stops = {}) {
    std::vector<std::int32_t> text;
    generate(
        *model, arena, test::random_ints(40, 1, 64),
        {.max_tokens = tokens, .seed = 7, .stop_tokens = stops},
        [&](std::int32_t token) {
          text.push_back(token);
          return static_cast<std::int64_t>(text.size()) < stop_after;
        },
        *machine.stream);
    return text;
  };
  const std::vector<std::int32_t> text = run(50, 1000);
  EXPECT_EQ(text.size(), 50u);
  EXPECT_EQ(run(50, 1000), text);
  EXPECT_EQ(run(50, 5), std::vector<std::int32_t>(text.begin(), text.begin() + 5));
  for (const std::int32_t token : text) EXPECT_LT(token, 64);
  // Any of the stop tokens ends the text and is no part of it.
  const auto first = std::find(text.begin(), text.end(), text[9]);
  EXPECT_EQ(run(50, 1000, {-1, text[9]}), std::vector<std::int32_t>(text.begin(), first));
  EXPECT_EQ(run(50, 1000, {text[9], -1}), std::vector<std::int32_t>(text.begin(), first));
  EXPECT_TRUE(run(50, 1000, {text[9], text[0]}).empty());
}

// Weights are finite, but what grows out of them is not.
TEST(Generate, LogitsThatAreNotFiniteAreAnError) {
  test::Machine machine = test::open_cpu();
  Arena arena(*machine.device);
  const auto model = test::open_model(machine, arena, /*batch=*/1, /*sequences=*/1);
  model->parameters().initialize(2, 1, *machine.stream);
  const Tensor& weights = model->parameters().weights();
  std::fill_n(weights.as<float>(), weights.count(), 1e30f);
  test::expect_error(ExitCode::kData, {"logits are not finite", "fp32"}, [&] {
    generate(
        *model, arena, {1, 2, 3}, {.max_tokens = 2}, [](std::int32_t) { return true; },
        *machine.stream);
  });
}

}  // namespace
}  // namespace lockstep
