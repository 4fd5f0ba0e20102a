// Decoding with a state per sequence: in one piece, in several and beside others, the same logits.
#include "core/rng.h"
#include "nn/transformer_rig.h"
#include "ops/gemm.h"

#include <algorithm>
#include <cmath>

namespace lockstep {
namespace {

using namespace test;

constexpr std::int64_t kContext = 40;  // three pages

ModelConfig long_context(const std::string& architecture) {
  ModelConfig config = small(architecture);
  config.seq_len = kContext;
  return config;
}

// A model that remembers `sequences`, fp32 unless told otherwise.
struct Decoder {
  Decoder(Machine& machine, const ModelConfig& config, std::int64_t sequences,
          std::int64_t cache_tokens = 0)
      : stream(*machine.stream), arena(*machine.device) {
    const ModelPlan plan{.mode = ModelPlan::Mode::kInference,
                         .batch = sequences,
                         .seq_len = kContext,
                         .sequences = sequences,
                         .sequence_tokens = kContext,
                         .cache_tokens = cache_tokens};
    model = make_model(config, plan, arena, &machine.device->kernels().scratch_bytes);
    model->parameters().initialize(11, 1, stream);
  }

  // Logits after each input.
  std::vector<std::vector<float>> decode(const std::vector<SequenceInput>& inputs) {
    const Tensor logits = model->decode(inputs, stream);
    stream.synchronize();
    EXPECT_EQ(logits.rows(), static_cast<std::int64_t>(inputs.size()));
    std::vector<std::vector<float>> rows;
    for (std::int64_t i = 0; i < logits.rows(); ++i) {
      const auto* row = logits.row_range(i, 1).as<float>();
      rows.emplace_back(row, row + kVocab);
    }
    return rows;
  }

  Stream& stream;
  Arena arena;
  std::unique_ptr<Model> model;
};

std::vector<double> doubles(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

class Decoding : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, Decoding, testing::Values("gpt2", "llama", "qwen2"));

TEST_P(Decoding, PiecesGiveTheSameLogits) {
  Machine machine = open_cpu(/*threads=*/1);
  Decoder decoder(machine, long_context(GetParam()), 1);
  const auto text = random_ints(36, 9, kVocab);
  const auto logits_after = [&](const std::vector<std::size_t>& pieces) {
    decoder.model->forget(0);
    std::vector<float> logits;
    std::size_t done = 0;
    for (const std::size_t count : pieces) {
      logits = decoder.decode({{0, std::span(text).subspan(done, count)}})[0];
      done += count;
      EXPECT_EQ(decoder.model->sequence_length(0), static_cast<std::int64_t>(done));
    }
    return doubles(logits);
  };
  const std::vector<double> whole = logits_after({36});
  // Sums of 32 to 40 products in another order: a few units of 2^-24.
  EXPECT_LT(relative_error(logits_after({7, 29}), whole), 1e-5);
  EXPECT_LT(relative_error(logits_after(std::vector<std::size_t>(36, 1)), whole), 1e-5);
}

// Whether the BLAS library computes a row of a product alike however many blocks of rows there
// are; some versions choose another algorithm by the size of the whole product.
bool rows_stand_alone(Machine& machine, std::int64_t in, std::int64_t out) {
  Arena arena(*machine.device);
  const auto tensor = [&](const char* name, std::int64_t rows, std::int64_t cols) {
    return arena.allocate(name, {rows, cols}, DType::kF32, MemoryGroup::kActivations);
  };
  constexpr std::int64_t kFew = 16, kMany = 64;
  const Tensor x = tensor("x", kMany, in), weight = tensor("weight", out, in);
  const Tensor many = tensor("many", kMany, out), few = tensor("few", kFew, out);
  fill_normal({x.as<float>(), static_cast<std::size_t>(x.count())}, 1, 0, 1.0f);
  fill_normal({weight.as<float>(), static_cast<std::size_t>(weight.count())}, 2, 0, 1.0f);
  ops::gemm({.out = many, .a = x, .b = weight, .transpose_b = true}, *machine.stream);
  ops::gemm({.out = few, .a = x.row_range(0, kFew), .b = weight, .transpose_b = true},
            *machine.stream);
  return std::equal(few.as<float>(), few.as<float>() + few.count(), many.as<float>());
}

// Greedy texts of sequences with prompts of several lengths, decoded together as long as each
// lasts, equal those that each gives alone; so are the logits, bit for bit where the library's
// products allow it.
TEST_P(Decoding, SequencesDoNotSeeEachOther) {
  Machine machine = open_cpu(/*threads=*/1);
  const ModelConfig config = long_context(GetParam());
  const std::vector<std::size_t> prompts = {17, 1, 30, 5}, lasts = {6, 9, 3, 8};
  using Rows = std::vector<std::vector<float>>;
  const auto next = [](const std::vector<float>& row) {
    return static_cast<std::int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
  };
  const auto run = [&](const std::vector<std::size_t>& chosen) {
    Decoder decoder(machine, config, static_cast<std::int64_t>(chosen.size()));
    std::vector<std::vector<std::int32_t>> texts;
    for (const std::size_t c : chosen) {
      texts.push_back(random_ints(static_cast<std::int64_t>(prompts[c]), 50 + c, kVocab));
    }
    std::vector<Rows> seen(chosen.size());
    for (std::size_t step = 0; step < 9; ++step) {
      std::vector<SequenceInput> inputs;
      std::vector<std::size_t> who;
      for (std::size_t i = 0; i < chosen.size(); ++i) {
        if (step >= lasts[chosen[i]]) continue;
        const std::span<const std::int32_t> text(texts[i]);
        inputs.push_back({static_cast<std::int64_t>(i), step == 0 ? text : text.last(1)});
        who.push_back(i);
      }
      if (inputs.empty()) break;
      const Rows rows = decoder.decode(inputs);
      for (std::size_t i = 0; i < who.size(); ++i) {
        seen[who[i]].push_back(rows[i]);
        texts[who[i]].push_back(next(rows[i]));
      }
    }
    return seen;
  };
  const std::vector<Rows> together = run({0, 1, 2, 3});
  const bool exact = rows_stand_alone(machine, config.hidden, config.ffn) &&
                     rows_stand_alone(machine, config.ffn, config.hidden) &&
                     rows_stand_alone(machine, config.hidden, config.vocab);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    ASSERT_EQ(together[i].size(), lasts[i]);
    const Rows alone = run({i})[0];
    if (exact) EXPECT_EQ(alone, together[i]) << i;
    for (std::size_t step = 0; step < alone.size(); ++step) {
      EXPECT_LT(relative_error(doubles(alone[step]), doubles(together[i][step])), 1e-5) << i;
    }
  }
}

// A sequence that is forgotten gives its pages to the next one; room says how much there is.
TEST(Decoding, PagesAreGivenBack) {
  Machine machine = open_cpu(/*threads=*/1);
  Decoder decoder(machine, long_context("llama"), /*sequences=*/2, /*cache_tokens=*/48);
  const auto text = random_ints(kContext, 9, kVocab);
  const auto first = decoder.decode({{0, std::span(text).first(33)}})[0];
  EXPECT_EQ(decoder.model->room(0), kContext - 33);
  EXPECT_EQ(decoder.model->room(1), 0);  // all three pages are taken
  EXPECT_THROW(decoder.decode({{1, std::span(text).first(1)}}), CheckError);
  decoder.model->forget(0);
  EXPECT_EQ(decoder.model->room(1), kContext);
  EXPECT_EQ(decoder.decode({{1, std::span(text).first(33)}})[0], first);
}

// Loss of one target after one token, and the same from the logits that decoding gives.
struct OneTokenLoss {
  double evaluated = 0.0;
  double decoded = 0.0;
};

OneTokenLoss one_token_loss(const ModelConfig& config, bool int8_activations) {
  Machine machine = open_cpu(/*threads=*/1);
  const ModelPlan plan{.mode = ModelPlan::Mode::kInference,
                       .sequences = 1,
                       .sequence_tokens = 1,
                       .int8_activations = int8_activations};
  Arena arena(*machine.device);
  Stream& stream = *machine.stream;
  const auto model = make_model(config, plan, arena, &machine.device->kernels().scratch_bytes);
  model->parameters().initialize(11, 1, stream);
  const DeviceBatch batch = allocate_batch(arena, model->batch_shape(), 1);
  const Tensor totals = arena.allocate("l", {3}, DType::kF64, MemoryGroup::kActivations);
  const std::int32_t token = 3;
  *batch.tokens.as<std::int32_t>() = token;
  *batch.targets.as<std::int32_t>() = 5;
  stream.zero(totals.data, totals.bytes());
  model->evaluate(batch, totals, stream);
  const SequenceInput input{0, std::span(&token, 1)};
  const auto* logits = model->decode(std::span(&input, 1), stream).as<float>();
  stream.synchronize();
  double sum = 0.0;
  for (std::int64_t i = 0; i < kVocab; ++i) sum += std::exp(static_cast<double>(logits[i]));
  return {*totals.as<double>(), std::log(sum) - static_cast<double>(logits[5])};
}

// Rounding changes the loss, by far more than the order of sums does, and both paths round alike.
TEST_P(Decoding, Int8ActivationsInBothPaths) {
  const OneTokenLoss exact = one_token_loss(small(GetParam()), /*int8_activations=*/false);
  const OneTokenLoss rounded = one_token_loss(small(GetParam()), /*int8_activations=*/true);
  EXPECT_NEAR(exact.decoded / exact.evaluated, 1.0, 1e-5);
  EXPECT_NEAR(rounded.decoded / rounded.evaluated, 1.0, 1e-5);
  const double change = std::fabs(rounded.evaluated / exact.evaluated - 1.0);
  EXPECT_GT(change, 1e-4);
  EXPECT_LT(change, 0.05);
}

}  // namespace
}  // namespace lockstep
