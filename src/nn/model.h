// Model: what the trainer, the evaluator and generation know of any model: named parameters and
// four calls. Asynchronous: every method only enqueues on the stream.
// Legend: B micro-batch, T sequence, N = B*T, Vp padded vocabulary.
#pragma once

#include "nn/model_config.h"
#include "nn/parameters.h"

#include <functional>
#include <memory>

namespace lockstep {

// [begin, end) of the flat gradient is final for this step; called in one fixed order, every
// element once. It may only enqueue work behind what is on the model's stream now.
using GradientReady = std::function<void(std::int64_t begin, std::int64_t end)>;

// How a model's buffers are laid out; fixed when it is made.
struct ModelPlan {
  enum class Mode { kTraining, kInference };
  Mode mode = Mode::kTraining;
  DType dtype = DType::kF32;
  std::int64_t batch = 1;
  std::int64_t seq_len = 1;
  std::int64_t head_chunks = 0;   // 0: as many as keep a chunk of logits under 1 GiB
  std::int64_t cache_tokens = 0;  // inference: capacity of the KV cache, 0 = none
  // Inference: inputs of the layers' linear maps are rounded to int8 per token (not the head's).
  bool int8_activations = false;
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelConfig& config() const = 0;
  virtual ParameterSet& parameters() = 0;
  // Memory that any kernel may use until the stream has passed; shared with the optimizer.
  virtual const Tensor& scratch() const = 0;

  // One micro-batch: totals (3, fp64: loss sum, targets that count, correct) and gradients
  // accumulate. `ready` may be empty; it is given on the last micro-batch of a step.
  // tokens, targets: (N) int32 on the device; free for reuse when the stream has passed.
  virtual void forward_backward(const Tensor& tokens, const Tensor& targets, const StepState* state,
                                const Tensor& totals, const GradientReady& ready,
                                Stream& stream) = 0;
  // Totals only, the third counting correct predictions.
  virtual void evaluate(const Tensor& tokens, const Tensor& targets, const Tensor& totals,
                        Stream& stream) = 0;
  // Inference with the cache, one sequence: appends tokens (n) int32 at `position` and returns the
  // logits (1, Vp) of the last one, valid until the next call. Needs position + n <= cache_tokens
  // and n <= batch * seq_len.
  virtual Tensor append(const Tensor& tokens, std::int64_t position, Stream& stream) = 0;
};

// Declares the parameters and allocates every buffer from `arena`, which may be dry.
// `scratch_bytes` is the kernel table's function, so that planning needs no device.
using ScratchBytes = std::size_t (*)(const ScratchQuery&);
std::unique_ptr<Model> make_model(const ModelConfig& config, const ModelPlan& plan, Arena& arena,
                                  ScratchBytes scratch_bytes);

}  // namespace lockstep
