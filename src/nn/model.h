// Model: what training, evaluation, generation and compression know of any model: named parameters,
// a loss over micro-batches, its layers one by one, and decoding with a state per sequence.
// Asynchronous: every method only enqueues on the stream, unless it says otherwise.
// Legend: B micro-batch, T sequence, N = B*T, C hidden, V vocabulary (Vp padded), S sequences.
#pragma once

#include "nn/batch.h"
#include "nn/model_config.h"
#include "nn/parameters.h"

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace lockstep {

// [begin, end) of the flat gradient is final for this step; called in one fixed order, every
// element once. It may only enqueue work behind what is on the model's stream now.
using GradientReady = std::function<void(std::int64_t begin, std::int64_t end)>;

// Called while a layer is enqueued, before each of its matrix products: the weights (one, or
// several joined ones) that are about to read x (N, in), and the residual stream (N, C) that their
// block, attention or feed-forward, began with. It may enqueue work that reads both; they are
// overwritten by what the layer enqueues later.
using LayerTap = std::function<void(std::span<const Parameter> weights, const Tensor& x,
                                    const Tensor& residual)>;

// How a model's buffers are laid out; fixed when it is made.
struct ModelPlan {
  enum class Mode { kTraining, kInference };
  Mode mode = Mode::kTraining;
  DType dtype = DType::kF32;
  std::int64_t batch = 1;
  std::int64_t seq_len = 1;
  std::int64_t head_chunks = 0;  // 0: as many as keep a chunk of logits under 1 GiB
  // Inference.
  std::int64_t sequences = 0;        // that decode() remembers at once; 0: none
  std::int64_t sequence_tokens = 0;  // the longest one
  std::int64_t cache_tokens = 0;     // of all together; 0: sequences * sequence_tokens
  // Inputs of the layers' linear maps are rounded to int8 per token (not the head's).
  bool int8_activations = false;
  WeightFormats weight_formats{};  // empty: all weights have `dtype`
};

// A block of a layer to who takes units out of it: channels of the feed-forward network, or key
// and value heads with their query heads. Each unit has the same number of consecutive rows of
// every `in` parameter and of consecutive columns of `out`.
struct UnitBlock {
  std::int64_t units = 0;
  std::vector<std::size_t> in;            // up, or gate and up; or q, k and v; and their biases
  std::size_t out = 0;                    // (C, columns): writes into the residual stream
  std::optional<std::size_t> out_bias{};  // (C)
};

// What decode() appends to one sequence.
struct SequenceInput {
  std::int64_t sequence = 0;  // [0, sequences)
  std::span<const std::int32_t> tokens{};
};

class Model {
 public:
  virtual ~Model() = default;
  virtual const ModelConfig& config() const = 0;
  virtual ParameterSet& parameters() = 0;
  // Memory that any kernel may use until the stream has passed; shared with the optimizer.
  virtual const Tensor& scratch() const = 0;
  virtual BatchShape batch_shape() const { return {}; }  // tokens and classes

  // One micro-batch: totals (3, fp64: loss sum, targets that count, correct) and gradients
  // accumulate. `ready` may be empty; it is given on the last micro-batch of a step.
  // The batch is free for reuse when the stream has passed.
  virtual void forward_backward(const DeviceBatch& batch, const StepState* state,
                                const Tensor& totals, const GradientReady& ready,
                                Stream& stream) = 0;
  // Totals only, the third counting correct predictions.
  virtual void evaluate(const DeviceBatch& batch, const Tensor& totals, Stream& stream) = 0;

  // Below, what a model need not have: without it, asking for it is a CheckError.

  // The same forward pass in pieces, in inference: what calibration and pruning drive. Weights may
  // be rewritten (ParameterSet::write_rows) between any two calls.
  virtual std::int64_t layers() const;
  virtual UnitBlock feed_forward(std::int64_t layer) const;
  virtual UnitBlock attention(std::int64_t layer) const;  // q, k and v are separate parameters
  // x = the first layer's input (N, C), in the plan's dtype.
  virtual void enter(const Tensor& x, const DeviceBatch& batch, Stream& stream);
  // out = layer `index` of x; both (N, C), out may be x. `tap` may be empty.
  virtual void forward_layer(std::int64_t index, const Tensor& out, const Tensor& x,
                             const DeviceBatch& batch, const LayerTap& tap, Stream& stream);
  // The forward pass without a loss, for whoever wants the logits themselves: after forward(),
  // logits (count, Vp) of rows [begin, begin + count), valid until the next call of either; at most
  // logit_rows() at once.
  virtual void forward(const DeviceBatch& batch, Stream& stream);
  virtual std::int64_t logit_rows() const;
  virtual Tensor logits(std::int64_t begin, std::int64_t count, Stream& stream);
  // Totals of evaluate(), from the last layer's output x (N, C).
  virtual void leave(const Tensor& x, const DeviceBatch& batch, const Tensor& totals,
                     Stream& stream);

  // Decoding. Every sequence has a state in the model: pages of keys and values, a recurrent state,
  // or nothing. All of it lies in buffers that were planned once.
  // Appends the tokens, each in [0, V), to their sequences and returns the logits (S, Vp), row i
  // after the last token of inputs[i]; valid until the next call. At most batch * seq_len tokens at
  // once, each sequence named once; the state has room for them.
  virtual Tensor decode(std::span<const SequenceInput> inputs, Stream& stream);
  // Tokens that the model remembers of a sequence, and forgetting them.
  virtual std::int64_t sequence_length(std::int64_t sequence) const;
  virtual void forget(std::int64_t sequence);
  // More tokens for which there is room, in this sequence alone.
  virtual std::int64_t room(std::int64_t sequence) const;
};

// Declares the parameters and allocates every buffer from `arena`, which may be dry.
// `scratch_bytes` is the kernel table's function, so that planning needs no device.
using ScratchBytes = std::size_t (*)(const ScratchQuery&);
std::unique_ptr<Model> make_model(const ModelConfig& config, const ModelPlan& plan, Arena& arena,
                                  ScratchBytes scratch_bytes);

}  // namespace lockstep
