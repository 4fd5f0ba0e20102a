// What the tests of the transformer share: a small configuration of each architecture, and a model
// with its memory and one batch.
#pragma once

#include "nn/small_model.h"
#include "nn/transformer.h"
#include "support/support.h"

#include <string>
#include <vector>

namespace lockstep::test {

inline constexpr std::int64_t kBatch = 2;
inline constexpr std::int64_t kSeqLen = 9;  // not a multiple of any tile
inline constexpr std::int64_t kRows = kBatch * kSeqLen;
inline constexpr std::int64_t kVocab = 37;

inline ModelConfig small(const std::string& architecture) {
  ModelConfig config =
      small_model(architecture, {.hidden = 32, .ffn = 40, .vocab = kVocab, .seq_len = 16});
  config.init_std = 0.2;  // large enough for every path to matter
  resolve(config, /*tokenizer_vocab=*/0);
  return config;
}

// A model with its memory, one batch and the loss it gives.
struct Rig {
  Rig(test::Machine& machine, const ModelConfig& config, ModelPlan plan)
      : stream(*machine.stream), arena(*machine.device) {
    model = make_model(config, plan, arena, &machine.device->kernels().scratch_bytes);
    batch.tokens = ints("tokens", 3, 0);
    batch.targets = ints("targets", 4, 5);
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
      model->forward_backward(batch, static_cast<StepState*>(state.data), totals, {}, stream);
    } else {
      model->evaluate(batch, totals, stream);
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
  DeviceBatch batch;
  Tensor totals, state;
  double counted = 0.0;
};

inline ModelPlan training_plan(DType dtype = DType::kF32, std::int64_t chunks = 1) {
  return {.dtype = dtype, .batch = kBatch, .seq_len = kSeqLen, .head_chunks = chunks};
}

inline ModelPlan inference_plan(DType dtype = DType::kF32) {
  return {.mode = ModelPlan::Mode::kInference, .dtype = dtype, .batch = kBatch, .seq_len = kSeqLen};
}

}  // namespace lockstep::test
