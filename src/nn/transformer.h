// The transformer: what a TransformerSpec says, with explicit forward and backward over buffers
// that are planned once. Asynchronous: every method only enqueues on the stream.
//
// Legend: B micro-batch, T sequence, N = B*T, C hidden, W = (H + 2G) * D packed qkv width, F ffn,
// V vocabulary, Vp padded. Layer: x -> norm1 -> qkv -> rope -> attention -> out + x = mid
//                                  -> norm2 -> up, activation, down + mid = next x.
#pragma once

#include "nn/kv_cache.h"
#include "nn/model.h"
#include "nn/transformer_spec.h"

#include <string>
#include <vector>

namespace lockstep {

class Transformer final : public Model {
 public:
  Transformer(const ModelConfig& config, const TransformerSpec& spec, const ModelPlan& plan,
              Arena& arena, ScratchBytes scratch_bytes);

  const ModelConfig& config() const override { return config_; }
  ParameterSet& parameters() override { return parameters_; }
  const Tensor& scratch() const override { return scratch_; }
  BatchShape batch_shape() const override { return {}; }
  void forward_backward(const DeviceBatch& batch, const StepState* state, const Tensor& totals,
                        const GradientReady& ready, Stream& stream) override;
  void evaluate(const DeviceBatch& batch, const Tensor& totals, Stream& stream) override;
  std::int64_t layers() const override { return config_.layers; }
  UnitBlock feed_forward(std::int64_t layer) const override;
  UnitBlock attention(std::int64_t layer) const override;
  void enter(const Tensor& x, const DeviceBatch& batch, Stream& stream) override;
  void forward_layer(std::int64_t index, const Tensor& out, const Tensor& x,
                     const DeviceBatch& batch, const LayerTap& tap, Stream& stream) override;
  void forward(const DeviceBatch& batch, Stream& stream) override;
  std::int64_t logit_rows() const override { return logits_.rows(); }
  Tensor logits(std::int64_t begin, std::int64_t count, Stream& stream) override;
  void leave(const Tensor& x, const DeviceBatch& batch, const Tensor& totals,
             Stream& stream) override;
  Tensor decode(std::span<const SequenceInput> inputs, Stream& stream) override;
  std::int64_t sequence_length(std::int64_t sequence) const override {
    return cache_.length(sequence);
  }
  void forget(std::int64_t sequence) override { cache_.forget(sequence); }
  std::int64_t room(std::int64_t sequence) const override { return cache_.room(sequence); }

 private:
  using Layer = TransformerLayout::Layer;
  // What forward keeps of one layer.
  struct Activations {
    Tensor norm1, mean1, rstd1;  // (N, C), (N), (N)
    Tensor qkv;                  // (N, W)
    Tensor attention, lse;       // (N, H*D), (B, H, T)
    Tensor mid;                  // (N, C)
    Tensor norm2, mean2, rstd2;  // (N, C), (N), (N)
    Tensor up;                   // (N, F) before GELU, or (N, 2F) gate and up
    Tensor act;                  // (N, F)
  };

  void plan_buffers(Arena& arena);
  void plan_cache(Arena& arena);
  Activations plan_layer(Arena& arena, const std::string& prefix);
  void build_rope_table(Arena& arena);
  ScratchQuery scratch_query() const;

  // How many joined parameters form the matrix (q, k, v and gate, up are separate by name).
  std::size_t qkv_parts() const { return spec_.qkv.size(); }
  std::size_t up_parts() const { return spec_.up.size(); }

  static std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }
  AttentionShape attention_shape() const;
  Tensor optional_weight(std::int64_t index) const;
  UnitBlock unit_block(std::int64_t units, std::int64_t in, std::int64_t in_bias, std::size_t n,
                       std::int64_t out, std::int64_t out_bias) const;
  // A layer's bias vectors, `n` joined ones from `index` on; absent where index is -1.
  Tensor bias(std::int64_t index, std::size_t n) const;
  // Says which weights are about to read x, and rounds x where the plan asks for it.
  void before_product(std::int64_t first, std::size_t n, const Tensor& x, const Tensor& residual,
                      Stream& stream);
  void check(const DeviceBatch& batch) const;
  void run_layer(std::size_t index, const Tensor& out, const Tensor& x, const DeviceBatch& batch,
                 Stream& stream);
  void final_norm(const Tensor& x, Stream& stream);
  void upload_rope_table(Stream& stream);
  void attention_block(const Layer& layer, const Activations& act, const Tensor& x,
                       const DeviceBatch& batch, Stream& stream);
  void qkv_projection(const Layer& layer, const Activations& act, const Tensor& x, Stream& stream);
  void output_projection(const Layer& layer, const Activations& act, const Tensor& x,
                         Stream& stream);
  void mlp_block(const Layer& layer, const Activations& act, const Tensor& out, Stream& stream);
  void normalize(const Tensor& out, const Tensor& mean, const Tensor& rstd, const Tensor& x,
                 std::int64_t weight, std::int64_t bias, Stream& stream);
  void judge(const DeviceBatch& batch, const Tensor& totals, Stream& stream);
  void head(const Tensor& targets, const StepState* state, bool backward, Stream& stream);
  void backward(const DeviceBatch& batch, const GradientReady& ready, Stream& stream);
  void backward_layer(std::size_t index, const DeviceBatch& batch, Stream& stream);
  void backward_mlp(const Layer& layer, const Activations& act, Stream& stream);
  void backward_attention(const Layer& layer, const Activations& act, const DeviceBatch& batch,
                          Stream& stream);
  void backward_norm(const Tensor& dx, const Tensor& dy, const Tensor& x, const Tensor& mean,
                     const Tensor& rstd, std::int64_t weight, std::int64_t bias,
                     const Tensor& residual_grad, Stream& stream);
  Activations first_rows(const Activations& full, std::int64_t count) const;
  void decode_layer(std::size_t index, const Tensor& x, const KvCache::Call& call, Stream& stream);
  Tensor gather_rows(const Tensor& x, const std::vector<std::int64_t>& rows, Stream& stream);
  Tensor residual(std::size_t layer) const;
  const Activations& activations(std::size_t layer) const;

  ModelConfig config_;
  TransformerSpec spec_;
  ModelPlan plan_;
  std::int64_t rows_;         // N
  std::int64_t buffer_rows_;  // as many, or more where decoding fills up its rows
  ParameterSet parameters_;
  TransformerLayout layout_;  // without its parameters: the set has them

  std::vector<Tensor> residual_;  // (N, C) each: x of layer l; one, reused, in inference
  std::vector<Activations> activations_;
  Tensor final_, final_mean_, final_rstd_;  // (N, C), (N), (N)
  Tensor logits_;                           // (rows of a chunk, Vp)
  Tensor losses_;                           // (N) fp32
  Tensor correct_;                          // (N) uint8
  Tensor rope_table_;
  std::vector<float> rope_values_;  // host copy, uploaded on first use
  bool rope_uploaded_ = false;
  Tensor dx_, dnorm_, dqkv_, dattention_, dup_, dact_;  // backward's shared buffers
  KvCache cache_;
  std::vector<Tensor> pages_;       // (page rows, 2*G*D): k | v per layer
  Tensor decoded_, decode_logits_;  // (S, C), (S, Vp)
  const LayerTap* tap_ = nullptr;   // during forward_layer()
  Tensor scratch_;
};

}  // namespace lockstep
