// The whole model: gradients against finite differences of its own loss, chunked and cached paths
// against the plain ones, and CUDA against the CPU.
#include "nn/transformer.h"

#include "support/support.h"

#include <cmath>

namespace lockstep {
namespace {

constexpr std::int64_t kBatch = 2;
constexpr std::int64_t kSeqLen = 9;  // not a multiple of any tile
constexpr std::int64_t kRows = kBatch * kSeqLen;
constexpr std::int64_t kVocab = 37;

ModelConfig small(const std::string& architecture) {
  ModelConfig config;
  config.architecture = architecture;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = architecture == "gpt2" ? 4 : 2;
  config.hidden = 32;
  config.ffn = 40;
  config.vocab = kVocab;
  config.seq_len = 16;
  config.init_std = 0.2;  // large enough for every path to matter
  resolve(config, /*tokenizer_vocab=*/0);
  return config;
}

// A model with its memory, one batch and the loss it gives.
struct Rig {
  Rig(test::Machine& machine, const ModelConfig& config, ModelPlan plan)
      : stream(*machine.stream), arena(*machine.device) {
    model = make_model(config, plan, arena, &machine.device->kernels().scratch_bytes);
    tokens = ints("tokens", 3, 0);
    targets = ints("targets", 4, 5);
    totals = arena.allocate("totals", {3}, DType::kF64, MemoryGroup::kActivations);
    state = arena.allocate("state", {sizeof(StepState)}, DType::kU8, MemoryGroup::kActivations);
    StepState initial;
    initial.grad_seed = 1.0f;  // gradients of the loss sum
    stream.copy(state.data, &initial, sizeof(initial));
  }

  // Random tokens; every `masked`-th is -1 (0: none).
  Tensor ints(const char* name, std::uint64_t seed, int masked) {
    auto values = test::random_ints(kRows, seed, kVocab);
    for (std::size_t i = 0; masked > 0 && i < values.size();
         i += static_cast<std::size_t>(masked)) {
      values[i] = -1;
    }
    const Tensor tensor = arena.allocate(name, {kRows}, DType::kI32, MemoryGroup::kActivations);
    stream.copy(tensor.data, values.data(), tensor.bytes());
    stream.synchronize();
    return tensor;
  }
  double loss_sum(bool with_gradient) {
    stream.zero(totals.data, totals.bytes());
    if (with_gradient) {
      model->forward_backward(tokens, targets, static_cast<StepState*>(state.data), totals, {},
                              stream);
    } else {
      model->evaluate(tokens, targets, totals, stream);
    }
    double host[3];
    stream.copy(host, totals.data, sizeof(host));
    stream.synchronize();
    counted = host[1];
    return host[0];
  }
  std::vector<float> read(const Tensor& tensor) {
    std::vector<float> host(static_cast<std::size_t>(tensor.count()));
    stream.copy(host.data(), tensor.data, tensor.bytes());
    stream.synchronize();
    return host;
  }

  Stream& stream;
  Arena arena;
  std::unique_ptr<Model> model;
  Tensor tokens, targets, totals, state;
  double counted = 0.0;
};

ModelPlan training_plan(DType dtype = DType::kF32, std::int64_t chunks = 1) {
  return {.dtype = dtype, .batch = kBatch, .seq_len = kSeqLen, .head_chunks = chunks};
}

class Architectures : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, Architectures, testing::Values("gpt2", "llama", "qwen2"));

// Central differences along random directions: one directional derivative per parameter, so every
// element counts. The loss sum is about 60 with rounding noise near 60 * 2^-23 * 10; the step is
// chosen so that noise / step and the cubic term both stay below 1%.
TEST_P(Architectures, GradientsMatchFiniteDifferences) {
  test::Machine machine = test::open_cpu();
  Rig rig(machine, small(GetParam()), training_plan());
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

// Masked targets count nowhere, and a second micro-batch adds to gradients and totals.
TEST_P(Architectures, MicroBatchesAccumulate) {
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

// Any size may equal the vocabulary's: only the tables with a row per entry are padded.
TEST_P(Architectures, SizesThatEqualTheVocabulary) {
  ModelConfig config = small(GetParam());
  config.vocab = config.hidden = config.ffn = 40;
  config.seq_len = 40;
  config.head_dim = 0;
  config.heads = config.kv_heads = 5;
  resolve(config, /*tokenizer_vocab=*/0);
  test::Machine machine = test::open_cpu();
  Rig rig(machine, config, training_plan());
  for (const Parameter& parameter : rig.model->parameters().all()) {
    const bool table = parameter.name.ends_with("wte.weight") ||
                       parameter.name.ends_with("embed_tokens.weight") ||
                       parameter.name == "lm_head.weight";
    EXPECT_EQ(parameter.padded_rows, table ? 128 : parameter.shape[0]) << parameter.name;
  }
  rig.model->parameters().initialize(11, 1, rig.stream);
  EXPECT_EQ(rig.loss_sum(/*with_gradient=*/true), rig.loss_sum(/*with_gradient=*/false));
}

// The head in pieces is the same computation; only dW's sum is split.
TEST_P(Architectures, HeadChunksChangeNothing) {
  test::Machine machine = test::open_cpu();
  Rig whole(machine, small(GetParam()), training_plan(DType::kF32, 1));
  Rig chunked(machine, small(GetParam()), training_plan(DType::kF32, 5));
  whole.model->parameters().initialize(11, 1, whole.stream);
  chunked.model->parameters().initialize(11, 1, chunked.stream);
  EXPECT_NEAR(whole.loss_sum(true), chunked.loss_sum(true), 1e-4);
  const std::vector<float> a = whole.read(whole.model->parameters().grads());
  const std::vector<float> b = chunked.read(chunked.model->parameters().grads());
  EXPECT_LT(test::relative_error({b.begin(), b.end()}, {a.begin(), a.end()}), 1e-5);
}

// Ranges come in ascending order, without gaps, and cover the flat gradient.
TEST_P(Architectures, GradientReadyCoversEverythingOnce) {
  test::Machine machine = test::open_cpu();
  Rig rig(machine, small(GetParam()), training_plan());
  rig.model->parameters().initialize(11, 1, rig.stream);
  std::int64_t done = 0;
  int calls = 0;
  rig.model->forward_backward(
      rig.tokens, rig.targets, static_cast<StepState*>(rig.state.data), rig.totals,
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

// Token by token through the cache, in one piece, and in two: the same logits.
TEST_P(Architectures, CacheGivesTheSameLogits) {
  test::Machine machine = test::open_cpu();
  const ModelConfig config = small(GetParam());
  const ModelPlan plan{.mode = ModelPlan::Mode::kInference,
                       .batch = 1,
                       .seq_len = config.seq_len,
                       .cache_tokens = config.seq_len};
  Arena arena(*machine.device);
  Stream& stream = *machine.stream;
  const auto model = make_model(config, plan, arena, &machine.device->kernels().scratch_bytes);
  model->parameters().initialize(11, 1, stream);
  const auto text = test::random_ints(12, 9, kVocab);
  const Tensor tokens = arena.allocate("t", {12, 1}, DType::kI32, MemoryGroup::kActivations);
  stream.copy(tokens.data, text.data(), tokens.bytes());
  const auto logits_after = [&](const std::vector<std::int64_t>& pieces) {
    Tensor logits;
    std::int64_t position = 0;
    for (const std::int64_t count : pieces) {
      logits = model->append(tokens.row_range(position, count).reshaped({count}), position, stream);
      position += count;
    }
    stream.synchronize();
    const auto* data = logits.as<float>();
    return std::vector<double>(data, data + kVocab);
  };
  const std::vector<double> whole = logits_after({12});
  // Sums of 32 to 40 products in another order: a few units of 2^-24.
  EXPECT_LT(test::relative_error(logits_after({7, 5}), whole), 1e-5);
  EXPECT_LT(test::relative_error(logits_after(std::vector<std::int64_t>(12, 1)), whole), 1e-5);
}

// Loss of one target after one token, and the same from the logits that the cached path gives.
struct OneTokenLoss {
  double evaluated = 0.0;
  double appended = 0.0;
};

OneTokenLoss one_token_loss(const ModelConfig& config, bool int8_activations) {
  test::Machine machine = test::open_cpu();
  const ModelPlan plan{
      .mode = ModelPlan::Mode::kInference, .cache_tokens = 1, .int8_activations = int8_activations};
  Arena arena(*machine.device);
  Stream& stream = *machine.stream;
  const auto model = make_model(config, plan, arena, &machine.device->kernels().scratch_bytes);
  model->parameters().initialize(11, 1, stream);
  const Tensor token = arena.allocate("t", {1}, DType::kI32, MemoryGroup::kActivations);
  const Tensor target = arena.allocate("y", {1}, DType::kI32, MemoryGroup::kActivations);
  const Tensor totals = arena.allocate("l", {3}, DType::kF64, MemoryGroup::kActivations);
  *token.as<std::int32_t>() = 3;
  *target.as<std::int32_t>() = 5;
  stream.zero(totals.data, totals.bytes());
  model->evaluate(token, target, totals, stream);
  const auto* logits = model->append(token, /*position=*/0, stream).as<float>();
  stream.synchronize();
  double sum = 0.0;
  for (std::int64_t i = 0; i < kVocab; ++i) sum += std::exp(static_cast<double>(logits[i]));
  return {*totals.as<double>(), std::log(sum) - static_cast<double>(logits[5])};
}

// Rounding changes the loss, by far more than the order of sums does, and both paths round alike.
TEST_P(Architectures, Int8ActivationsInBothPaths) {
  const OneTokenLoss exact = one_token_loss(small(GetParam()), /*int8_activations=*/false);
  const OneTokenLoss rounded = one_token_loss(small(GetParam()), /*int8_activations=*/true);
  EXPECT_NEAR(exact.appended / exact.evaluated, 1.0, 1e-5);
  EXPECT_NEAR(rounded.appended / rounded.evaluated, 1.0, 1e-5);
  const double change = std::fabs(rounded.evaluated / exact.evaluated - 1.0);
  EXPECT_GT(change, 1e-4);
  EXPECT_LT(change, 0.05);
}

TEST(Transformer, Int8ActivationsAreNotForTraining) {
  test::Machine machine = test::open_cpu();
  Arena arena(*machine.device);
  const ModelPlan plan{.int8_activations = true};
  EXPECT_THROW(make_model(small("gpt2"), plan, arena, &machine.device->kernels().scratch_bytes),
               CheckError);
}

TEST_P(Architectures, CudaMatchesCpu) {
  LOCKSTEP_OPEN_CUDA(gpu);
  test::Machine cpu = test::open_cpu();
  for (const DType dtype : test::kStorageTypes) {
    Rig a(cpu, small(GetParam()), training_plan(dtype));
    Rig b(gpu, small(GetParam()), training_plan(dtype));
    a.model->parameters().initialize(11, 1, a.stream);
    b.model->parameters().initialize(11, 1, b.stream);
    const double loss = a.loss_sum(true);
    // About ten roundings of activations per layer lie between the two, each of unit roundoff.
    const double tolerance = 20.0 * test::unit_roundoff(dtype) + 1e-6;
    EXPECT_NEAR(b.loss_sum(true) / loss, 1.0, tolerance) << name_of(dtype);
    const std::vector<float> ga = a.read(a.model->parameters().grads());
    const std::vector<float> gb = b.read(b.model->parameters().grads());
    EXPECT_LT(test::relative_error({gb.begin(), gb.end()}, {ga.begin(), ga.end()}), 5.0 * tolerance)
        << name_of(dtype);
  }
}

}  // namespace
}  // namespace lockstep
