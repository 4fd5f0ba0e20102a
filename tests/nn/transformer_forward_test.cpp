// The forward pass in pieces: layer by layer it is evaluate(), taps see what each product reads,
// and rewritten weights count at once.
#include "nn/transformer_rig.h"

#include <cmath>
#include <map>

namespace lockstep {
namespace {

using namespace test;

class Layers : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, Layers, testing::Values("gpt2", "llama", "qwen2"));

double total(Rig& rig, const LayerTap& tap) {
  const Tensor x = rig.arena.allocate("x", {kRows, rig.model->config().hidden}, DType::kF32,
                                      MemoryGroup::kActivations);
  rig.stream.zero(rig.totals.data, rig.totals.bytes());
  rig.model->enter(x, rig.batch, rig.stream);
  for (std::int64_t l = 0; l < rig.model->layers(); ++l) {
    rig.model->forward_layer(l, x, x, rig.batch, tap, rig.stream);
  }
  rig.model->leave(x, rig.batch, rig.totals, rig.stream);
  double loss = 0.0;
  rig.stream.copy(&loss, rig.totals.data, sizeof(loss));
  rig.stream.synchronize();
  return loss;
}

TEST_P(Layers, PiecesAreTheWhole) {
  Machine machine = open_cpu(/*threads=*/1);
  Rig rig(machine, small(GetParam()), inference_plan());
  rig.model->parameters().initialize(11, 1, rig.stream);
  EXPECT_EQ(total(rig, {}), rig.loss_sum(/*with_gradient=*/false));
}

// Every linear map of every layer once, and an input of its width.
TEST_P(Layers, TapsSeeEveryLinearMap) {
  Machine machine = open_cpu(/*threads=*/1);
  Rig rig(machine, small(GetParam()), inference_plan());
  rig.model->parameters().initialize(11, 1, rig.stream);
  std::map<std::string, double> energy;
  total(rig, [&](std::span<const Parameter> weights, const Tensor& x, const Tensor&) {
    EXPECT_EQ(x.rows(), kRows);
    double sum = 0.0;
    for (std::int64_t i = 0; i < x.count(); ++i) sum += std::fabs(x.as<float>()[i]);
    for (const Parameter& weight : weights) {
      EXPECT_EQ(weight.shape[1], x.cols()) << weight.name;
      EXPECT_TRUE(energy.emplace(weight.name, sum).second) << weight.name;
    }
  });
  std::size_t maps = 0;
  for (const Parameter& parameter : rig.model->parameters().all()) {
    if (parameter.kind != ParameterKind::kLinear) continue;
    ++maps;
    EXPECT_GT(energy[parameter.name], 0.0) << parameter.name;
  }
  EXPECT_EQ(energy.size(), maps);
}

TEST_P(Layers, WeightsMayBeRewritten) {
  Machine machine = open_cpu(/*threads=*/1);
  Rig rig(machine, small(GetParam()), inference_plan());
  ParameterSet& parameters = rig.model->parameters();
  parameters.initialize(11, 1, rig.stream);
  const double before = total(rig, {});
  for (std::size_t p = 0; p < parameters.all().size(); ++p) {
    if (parameters[p].kind != ParameterKind::kLinear) continue;
    std::vector<float> rows(static_cast<std::size_t>(2 * parameters[p].shape[1]));
    parameters.read_rows(p, 1, rows, rig.stream);
    for (float& value : rows) value += 0.5f;
    parameters.write_rows(p, 1, rows, rig.stream);
    std::vector<float> again(rows.size());
    parameters.read_rows(p, 1, again, rig.stream);
    EXPECT_EQ(again, rows) << parameters[p].name;
  }
  EXPECT_NE(total(rig, {}), before);
}

// What stands before a document's start changes nothing in it, neither loss nor gradients.
TEST_P(Layers, DocumentsDoNotSeeEachOther) {
  constexpr std::int64_t kStart = 4;
  const auto run = [](bool starts, std::int32_t before) {
    Machine machine = open_cpu(/*threads=*/1);
    Rig rig(machine, small(GetParam()), training_plan());
    rig.model->parameters().initialize(11, 1, rig.stream);
    std::vector<std::int32_t> document_starts;
    for (std::int64_t row = 0; row < kRows; ++row) {
      const bool first = row % kSeqLen < kStart;
      document_starts.push_back(first ? 0 : kStart);
      if (!first) continue;
      rig.batch.tokens.as<std::int32_t>()[row] = before;
      rig.batch.targets.as<std::int32_t>()[row] = -1;
    }
    if (starts) {
      rig.batch.document_starts =
          rig.arena.allocate("starts", {kRows}, DType::kI32, MemoryGroup::kActivations);
      rig.stream.copy(rig.batch.document_starts.data, document_starts.data(),
                      rig.batch.document_starts.bytes());
    }
    const double loss = rig.loss_sum(/*with_gradient=*/true);
    const ParameterSet& parameters = rig.model->parameters();
    const Tensor grad = parameters.grad(parameters.find(GetParam() == std::string("gpt2")
                                                            ? "transformer.h.0.mlp.c_fc.weight"
                                                            : "model.layers.0.mlp.up_proj.weight"));
    return std::pair(loss, rig.read(grad));
  };
  EXPECT_EQ(run(true, 1), run(true, 2));
  EXPECT_NE(run(false, 1).first, run(false, 2).first);
}

TEST(Layers, AreForInference) {
  Machine machine = open_cpu(/*threads=*/1);
  Rig rig(machine, small("llama"), training_plan());
  const Tensor x = rig.arena.allocate("x", {kRows, 32}, DType::kF32, MemoryGroup::kActivations);
  EXPECT_THROW(rig.model->forward_layer(0, x, x, rig.batch, {}, rig.stream), CheckError);
}

}  // namespace
}  // namespace lockstep
