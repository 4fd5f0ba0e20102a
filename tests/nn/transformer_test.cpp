// The whole model: its memory plan, its head in pieces, and CUDA against the CPU.
#include "nn/transformer.h"

#include "nn/transformer_rig.h"

#include <cmath>

namespace lockstep {
namespace {

using namespace test;

class Architectures : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, Architectures, testing::Values("gpt2", "llama", "qwen2"));

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

// Scratch is planned for as many pieces of work as there are: a deep model has more small tensors
// than any constant would allow for.
std::int64_t planned_work_items = 0;
std::size_t note_work_items(const ScratchQuery& query) {
  planned_work_items = query.work_items;
  return 1;
}

TEST(Transformer, ScratchCoversTheWorkOfADeepModel) {
  ModelConfig config{.architecture = "gpt2", .layers = 4096, .heads = 1, .hidden = 8};
  resolve(config, /*tokenizer_vocab=*/256);
  Arena dry(DeviceKind::kCpu);
  const auto model = make_model(config, {}, dry, &note_work_items);
  const auto items = static_cast<std::int64_t>(model->parameters().work().items.size());
  EXPECT_GT(items, 4096 * 12);
  EXPECT_EQ(planned_work_items, items);
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
