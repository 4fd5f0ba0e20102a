// Pruned models, at 1, 2 and 4 ranks: what does nothing goes for nothing, least squares repairs
// more than a bias and that more than nothing, and every world size gives the same bytes.
#include "compress/prune.h"

#include "comm/mpi_main.h"
#include "compress/exact_sum.h"
#include "compress/unit_rank.h"
#include "data/fixture.h"
#include "nn/load_weights.h"
#include "support/support.h"

#include <cmath>
#include <map>

namespace lockstep {
namespace {

constexpr std::int64_t kSeqLen = 16, kVocab = 61, kSamples = 24;

ModelConfig small_model(const std::string& architecture, std::int64_t ffn = 48) {
  ModelConfig config;
  config.architecture = architecture;
  config.layers = 2;
  config.heads = 2;
  config.hidden = 16;
  config.ffn = ffn;
  config.seq_len = kSeqLen;
  config.init_std = 0.2;
  resolve(config, kVocab);
  return config;
}

// Four query heads, two key and value heads.
ModelConfig grouped_model(const std::string& architecture) {
  ModelConfig config = small_model(architecture);
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 4;
  resolve(config, kVocab);
  return config;
}

// A model's tensors in memory.
class Held final : public WeightSource {
 public:
  explicit Held(Model& model, Stream& stream) {
    ParameterSet& parameters = model.parameters();
    for (std::size_t i = 0; i < parameters.all().size(); ++i) {
      tensors_.push_back({parameters[i].name, parameters[i].shape, "F32"});
      auto& values = values_[parameters[i].name];
      values.resize(static_cast<std::size_t>(parameters[i].count()));
      parameters.read_rows(i, 0, values, stream);
    }
  }
  std::vector<float>& at(const std::string& name) { return values_.at(name); }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  void read(const std::string& name, std::int64_t row_begin, std::span<float> out) override {
    const Shape& shape = find(name)->shape;
    const auto first = values_.at(name).begin() + row_begin * (shape.count() / shape[0]);
    std::copy_n(first, out.size(), out.begin());
  }

 private:
  std::vector<SourceTensor> tensors_;
  std::map<std::string, std::vector<float>> values_;
};

// One device, calibration text, and a dense model whose weights every pass starts from.
class Pruning : public testing::Test {
 protected:
  Pruning() {
    test::write_shard(folder_ / "text.bin", test::random_ints(kSamples * kSeqLen + 1, 3, kVocab));
    data_ = std::make_unique<Dataset>(std::vector<std::string>{folder_ / "text.bin"}, "train",
                                      kSeqLen, kVocab, /*seed=*/0);
  }

  std::unique_ptr<Model> open(const ModelConfig& config, Arena& arena, std::int64_t batch) {
    return make_model(config,
                      {.mode = ModelPlan::Mode::kInference, .batch = batch, .seq_len = kSeqLen},
                      arena, &machine_.device->kernels().scratch_bytes);
  }

  Held drawn(const ModelConfig& config) {
    Arena arena(*machine_.device);
    const auto model = open(config, arena, 1);
    model->parameters().initialize(5, 1, *machine_.stream);
    return Held(*model, *machine_.stream);
  }

  std::unique_ptr<PrunedWeights> prune(const ModelConfig& config, WeightSource& dense,
                                       const PruneOptions& options) {
    Arena arena(*machine_.device);
    const CalibrationPlan plan{.sequences = 2, .chunks = kSamples / 2};
    const auto model = open(config, arena, plan.sequences);
    load_weights(model->parameters(), dense, "dense", *machine_.stream);
    Calibration calibration(*model, *data_, plan, *world_, arena, *machine_.stream, {});
    return lockstep::prune(calibration, options, dense, arena, {});
  }

  // Mean squared difference of what the last layers give, on the calibration text.
  double difference(const ModelConfig& config, WeightSource& weights, const ModelConfig& dense,
                    WeightSource& dense_weights) {
    const auto outputs = [&](const ModelConfig& c, WeightSource& w) {
      Arena arena(*machine_.device);
      const CalibrationPlan plan{.sequences = 2, .chunks = kSamples / 2};
      const auto model = open(c, arena, plan.sequences);
      load_weights(model->parameters(), w, "model", *machine_.stream);
      const auto world = make_self_world();
      Calibration walk(*model, *data_, plan, *world, arena, *machine_.stream, {});
      Residuals x = walk.enter();
      for (std::int64_t l = 0; l < model->layers(); ++l) x = walk.run(l, x, {});
      return x;
    };
    const Residuals a = outputs(config, weights), b = outputs(dense, dense_weights);
    double sum = 0.0, count = 0.0;
    for (std::size_t chunk = 0; chunk < a.size(); ++chunk) {
      for (std::size_t i = 0; i < a[chunk].size(); ++i, ++count) {
        sum += std::pow(double{a[chunk][i]} - b[chunk][i], 2);
      }
    }
    return sum / count;
  }

  test::TempDir folder_;
  std::unique_ptr<World> world_ = make_mpi_world(30.0);
  test::Machine machine_ = test::open_cpu(/*threads=*/1);
  std::unique_ptr<Dataset> data_;
};

std::vector<float> all_values(WeightSource& weights) {
  std::vector<float> all;
  for (const SourceTensor& tensor : weights.tensors()) {
    std::vector<float> values(static_cast<std::size_t>(tensor.shape.count()));
    weights.read(tensor.name, 0, values);
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

TEST_F(Pruning, ChannelsThatDoNothingGoForNothing) {
  for (const char* architecture : {"gpt2", "llama"}) {
    const ModelConfig dense = small_model(architecture);
    Held weights = drawn(dense);
    for (const SourceTensor& tensor : weights.tensors()) {
      const bool down = tensor.name.find("down_proj.weight") != std::string::npos ||
                        tensor.name.find("mlp.c_proj.weight") != std::string::npos;
      if (!down) continue;
      std::vector<float>& values = weights.at(tensor.name);
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (i % 48 % 3 == 0) values[i] = 0.0f;
      }
    }
    ModelConfig pruned = dense;
    pruned.ffn = 32;
    for (const char* reconstruct : kReconstructions) {
      const auto result = prune(dense, weights, {.ffn = 32, .reconstruct = reconstruct});
      EXPECT_LT(difference(pruned, *result, dense, weights), 1e-11)
          << architecture << " " << reconstruct;
    }
  }
}

TEST_F(Pruning, LeastSquaresRepairsMost) {
  for (const char* architecture : {"gpt2", "qwen2"}) {
    const ModelConfig dense = small_model(architecture);
    Held weights = drawn(dense);
    ModelConfig pruned = dense;
    pruned.ffn = 32;
    std::map<std::string, double> lost;
    for (const std::string reconstruct : kReconstructions) {
      const auto result = prune(dense, weights, {.ffn = 32, .reconstruct = reconstruct});
      lost[reconstruct] = difference(pruned, *result, dense, weights);
    }
    EXPECT_LT(lost["lsq"], 0.7 * lost["none"]) << architecture;
    EXPECT_LE(lost["bias"], lost["none"]) << architecture;
    for (const char* rank : kUnitRanks) {
      const auto result = prune(dense, weights, {.ffn = 32, .rank = rank, .reconstruct = "none"});
      EXPECT_LE(lost["none"], difference(pruned, *result, dense, weights)) << rank;
    }
  }
}

// Key and value head 1 with its two query heads adds nothing.
TEST_F(Pruning, HeadsThatDoNothingGoForNothing) {
  for (const char* architecture : {"llama", "qwen2"}) {
    const ModelConfig dense = grouped_model(architecture);
    Held weights = drawn(dense);
    for (const SourceTensor& tensor : weights.tensors()) {
      if (tensor.name.find("o_proj.weight") == std::string::npos) continue;
      std::vector<float>& values = weights.at(tensor.name);
      for (std::size_t i = 0; i < values.size(); ++i) {
        if (i % 16 >= 8) values[i] = 0.0f;
      }
    }
    for (const char* reconstruct : kReconstructions) {
      const PruneOptions options{.kv_heads = 1, .reconstruct = reconstruct};
      const auto result = prune(dense, weights, options);
      EXPECT_LT(difference(pruned_config(dense, options), *result, dense, weights), 1e-11)
          << architecture << " " << reconstruct;
    }
  }
}

TEST_F(Pruning, HeadsAndChannelsTogether) {
  for (const char* architecture : {"llama", "qwen2"}) {
    const ModelConfig dense = grouped_model(architecture);
    Held weights = drawn(dense);
    std::map<std::string, double> lost;
    for (const std::string reconstruct : kReconstructions) {
      const PruneOptions options{.ffn = 32, .kv_heads = 1, .reconstruct = reconstruct};
      const auto result = prune(dense, weights, options);
      lost[reconstruct] = difference(pruned_config(dense, options), *result, dense, weights);
    }
    EXPECT_LT(lost["lsq"], 0.8 * lost["none"]) << architecture;
  }
}

TEST(KeptHeads, AreLegalNumbers) {
  ModelConfig config = grouped_model("llama");
  EXPECT_EQ(kept_kv_heads(config, 0.5, true), 1);
  EXPECT_THROW(kept_kv_heads(config, 0.1, true), UserError);
  config.hidden = 576, config.heads = 9, config.kv_heads = 3;
  EXPECT_EQ(kept_kv_heads(config, 0.25, true), 2);
  config.hidden = 64, config.heads = config.kv_heads = 4;
  EXPECT_EQ(kept_kv_heads(config, 0.25, false), 3);
  EXPECT_EQ(kept_kv_heads(config, 0.3, true), 2);  // 3 does not divide 64
  EXPECT_THROW(kept_kv_heads(config, std::nan(""), true), UserError);
  EXPECT_THROW(kept_kv_heads(small_model("gpt2"), 0.5, false), UserError);
}

TEST_F(Pruning, EveryWorldSizeGivesTheSameBytes) {
  const ModelConfig dense = small_model("gpt2");
  Held weights = drawn(dense);
  const auto result = prune(dense, weights, {.ffn = 32});
  const std::vector<float> here = all_values(*result);
  const auto world = make_self_world();
  Arena arena(*machine_.device);
  const CalibrationPlan plan{.sequences = 2, .chunks = kSamples / 2};
  const auto model = open(dense, arena, plan.sequences);
  load_weights(model->parameters(), weights, "dense", *machine_.stream);
  Calibration alone(*model, *data_, plan, *world, arena, *machine_.stream, {});
  EXPECT_EQ(here, all_values(*lockstep::prune(alone, {.ffn = 32}, weights, arena, {})));
}

TEST_F(Pruning, StopsTogether) {
  const ModelConfig dense = small_model("llama");
  Held weights = drawn(dense);
  Arena arena(*machine_.device);
  const auto model = open(dense, arena, 2);
  load_weights(model->parameters(), weights, "dense", *machine_.stream);
  const bool asked = world_->rank() == world_->size() - 1;
  Calibration calibration(*model, *data_, {.sequences = 2, .chunks = 12}, *world_, arena,
                          *machine_.stream, [&] { return asked; });
  EXPECT_THROW(lockstep::prune(calibration, {.ffn = 32}, weights, arena, {}), CollectiveError);
}

TEST(KeptChannels, AreLegalWidths) {
  EXPECT_EQ(kept_channels(1536, 0.3), 1088);
  EXPECT_EQ(kept_channels(512, 0.3), 352);
  EXPECT_EQ(kept_channels(48, 0.3), 32);
  for (const double share : {0.0, 0.001, 1.0, 0.999, -0.5, std::nan("")}) {
    EXPECT_THROW(kept_channels(512, share), UserError) << share;
  }
}

TEST(ExactSum, HasNoOrder) {
  const std::vector<double> x = test::random_values(100, 1), y = test::random_values(100, 2);
  const std::vector<float> a(x.begin(), x.end()), b(y.begin(), y.end());
  const auto world = make_self_world();
  ExactSum one(100, 16.0), other(100, 16.0);
  one.add(a), one.add(b);
  other.add(b), other.add(a);
  const std::vector<double> sums = one.total(*world);
  EXPECT_EQ(sums, other.total(*world));
  for (std::size_t i = 0; i < 100; ++i) EXPECT_NEAR(sums[i], double{a[i]} + b[i], 1e-15);
  ExactSum tiny(1, 1e-300), none(1, 0.0);
  none.add(std::vector<float>{0.0f});
  EXPECT_EQ(none.total(*world)[0], 0.0);
}

TEST(CalibrationPlan, CutsWholeChunks) {
  test::TempDir folder;
  test::write_shard(folder / "text.bin", test::random_ints(100 * kSeqLen + 1, 3, kVocab));
  const Dataset data({folder / "text.bin"}, "train", kSeqLen, kVocab, 0);
  const CalibrationPlan some = CalibrationPlan::make(data, 50 * kSeqLen);
  EXPECT_EQ(some.sequences, 50);
  EXPECT_EQ(some.chunks, 1);
  EXPECT_EQ(CalibrationPlan::make(data, 1 << 30).sequences, 100);
  EXPECT_EQ(CalibrationPlan::make(data, 1).sequences, 1);
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) { return lockstep::run_mpi_tests(argc, argv); }
