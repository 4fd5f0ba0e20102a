// A step's end on one rank: the update, the skip of a non-finite gradient with its tensor named,
// votes, and reports read one step late.
#include "trainer/training_state.h"

#include "support/support.h"

#include <cmath>
#include <limits>

namespace lockstep {
namespace {

Options small_options(DType dtype) {
  Options options;
  options.model.layers = 1;
  options.model.heads = 2;
  options.model.hidden = 16;
  options.model.vocab = 19;
  options.model.seq_len = 8;
  options.train.micro_batch_size = 2;
  options.precision.dtype = dtype;
  options.optimizer.warmup_steps = 0;
  options.optimizer.schedule = StepRules::Schedule::kConstant;
  resolve(options.model, 0);
  return options;
}

struct Bench {
  explicit Bench(const Options& options_)
      : options(options_),
        arena(*machine.device),
        model(make_model(options.model,
                         {.dtype = options.precision.dtype, .batch = 2, .seq_len = 8}, arena,
                         &machine.device->kernels().scratch_bytes)),
        state(*model, OptimizerBuffers(model->parameters(), arena), options, /*steps=*/100,
              /*rank=*/0, /*world=*/1, *machine.stream),
        communicator(make_self_communicator()) {
    model->parameters().initialize(3, 1, *machine.stream);
  }
  // A step whose gradient is `value` everywhere (padding aside) and whose loss sum is 32 of 16.
  void step(std::int64_t number, float value, StepVotes votes = {}) {
    state.begin_step(*machine.stream);
    const ParameterSet& parameters = model->parameters();
    for (const Parameter& parameter : parameters.all()) {
      auto* grads = parameters.grads().as<float>() + parameter.offset;
      for (std::int64_t i = 0; i < parameter.count(); ++i) grads[i] = value;
    }
    state.totals().as<double>()[0] = 32.0;
    state.totals().as<double>()[1] = 16.0;
    state.end_step(number, votes, *communicator, *machine.stream);
  }
  std::vector<float> masters() const {
    const auto* data = model->parameters().masters().as<float>();
    return {data, data + model->parameters().flat_count()};
  }

  Options options;
  test::Machine machine = test::open_cpu();
  Arena arena;
  std::unique_ptr<Model> model;
  TrainingState state;
  std::unique_ptr<Communicator> communicator;
};

TEST(TrainingState, ReportsComeInOrderOneStepLate) {
  Bench bench(small_options(DType::kF32));
  bench.step(1, 1e-3f);
  bench.step(2, 1e-3f, {.stop = true});
  EXPECT_EQ(bench.state.unread(), 2);
  const StepReport first = bench.state.read();
  EXPECT_EQ(first.step, 1);
  EXPECT_FALSE(first.stop);
  EXPECT_DOUBLE_EQ(first.loss, 2.0);
  EXPECT_EQ(first.valid_tokens, 16);
  EXPECT_EQ(first.state.updates, 1);
  // grad_norm is unscaled: the seed was 1 / 16 for 16 valid tokens, so the multiplier is 1.
  const double count = static_cast<double>(bench.model->parameters().logical_count());
  EXPECT_NEAR(first.state.grad_norm, 1e-3 * std::sqrt(count), 1e-6);
  const StepReport second = bench.state.read();
  EXPECT_TRUE(second.stop);
  EXPECT_FALSE(second.save);
  EXPECT_EQ(second.state.updates, 2);
  EXPECT_THROW(bench.state.read(), CheckError);
  bench.step(3, 1e-3f, {.save = true});
  const StepReport third = bench.state.read();
  EXPECT_TRUE(third.save && !third.stop);
}

TEST(TrainingState, ANonFiniteGradientChangesNothingAndIsNamed) {
  Bench bench(small_options(DType::kF16));
  bench.step(1, 1.0f);
  bench.state.read();
  const std::vector<float> before = bench.masters();
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    bench.state.begin_step(*bench.machine.stream);
    ParameterSet& parameters = bench.model->parameters();
    const std::size_t at = parameters.find("transformer.h.0.mlp.c_fc.weight");
    parameters.grad(at).as<float>()[5] = bad;
    bench.state.totals().as<double>()[1] = 16.0;
    bench.state.end_step(2, {}, *bench.communicator, *bench.machine.stream);
    const StepReport report = bench.state.read();
    EXPECT_EQ(report.state.finite, 0);
    EXPECT_EQ(report.bad_parameter, "transformer.h.0.mlp.c_fc.weight");
    EXPECT_EQ(report.state.updates, 1);
    EXPECT_EQ(bench.masters(), before);
    EXPECT_EQ(parameters.grad(at).as<float>()[5], 0.0f);  // gone before the next step
  }
  const StepState state = bench.state.get(*bench.machine.stream);
  EXPECT_EQ(state.loss_scale, 65536.0f / 4.0f);
  EXPECT_EQ(state.skipped, 2);
  bench.step(4, 1.0f);
  EXPECT_EQ(bench.state.read().state.updates, 2);
  EXPECT_NE(bench.masters(), before);
}

TEST(TrainingState, WeightsAreTheRoundedMasters) {
  Bench bench(small_options(DType::kBF16));
  bench.step(1, 0.5f);
  const ParameterSet& parameters = bench.model->parameters();
  const auto* weights = parameters.weights().as<bf16>();
  const std::vector<float> masters = bench.masters();
  for (std::size_t i = 0; i < masters.size(); ++i) {
    ASSERT_EQ(weights[i].bits, to_bf16(masters[i]).bits) << i;
  }
}

TEST(TrainingState, EachSegmentHasOneOwner) {
  const Options options = small_options(DType::kF32);
  std::vector<double> sums;
  for (int world : {1, 3}) {
    std::vector<double> total;
    for (int rank = 0; rank < world; ++rank) {
      Bench bench(options);
      TrainingState part(*bench.model, OptimizerBuffers(bench.model->parameters(), bench.arena),
                         options, 100, rank, world, *bench.machine.stream);
      ParameterSet& parameters = bench.model->parameters();
      for (std::int64_t i = 0; i < parameters.flat_count(); ++i) {
        parameters.grads().as<float>()[i] = static_cast<float>(i % 7);
      }
      part.begin_step(*bench.machine.stream);
      part.totals().as<double>()[1] = 16.0;
      part.end_step(1, {}, *bench.communicator, *bench.machine.stream);
      const double norm = part.read().state.grad_norm;
      total.push_back(norm * norm);
    }
    double sum = 0.0;
    for (const double value : total) sum += value;
    sums.push_back(sum);
  }
  EXPECT_NEAR(sums[1] / sums[0], 1.0, 1e-6);
}

}  // namespace
}  // namespace lockstep
