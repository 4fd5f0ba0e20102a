// Backward, in the order of the flat gradient: head, last layer to first, embeddings. dx_ carries
// the gradient of the residual stream from layer to layer.
#include "nn/linear.h"
#include "nn/transformer.h"
#include "ops/attention.h"
#include "ops/classifier.h"
#include "ops/embedding.h"
#include "ops/norm.h"
#include "ops/rope.h"
#include "ops/swiglu.h"

namespace lockstep {

void Transformer::forward_backward(const DeviceBatch& batch, const StepState* state,
                                   const Tensor& totals, const GradientReady& ready,
                                   Stream& stream) {
  forward(batch, stream);
  head(batch.targets, state, /*backward=*/true, stream);
  ops::loss_totals({.totals = totals, .losses = losses_, .targets = batch.targets}, stream);
  backward(batch, ready, stream);
}

void Transformer::backward(const DeviceBatch& batch, const GradientReady& ready, Stream& stream) {
  std::int64_t done = 0;
  const auto finished = [&](std::int64_t end) {
    if (ready && end > done) ready(done, end);
    done = std::max(done, end);
  };
  const bool layer_norm = spec_.norm == NormKind::kLayerNorm;
  backward_norm(dx_, dnorm_, residual(layout_.layers.size()), layer_norm ? final_mean_ : Tensor{},
                final_rstd_, layout_.final_norm, layout_.final_norm_bias, Tensor{}, stream);
  for (std::size_t l = layout_.layers.size(); l-- > 0;) {
    // A layer's first parameter lies behind everything that is finished by now.
    finished(parameters_[at(layout_.layers[l].down)].offset);
    backward_layer(l, batch, stream);
  }
  const std::int64_t embeddings =
      layout_.position_embedding >= 0 ? layout_.position_embedding : layout_.token_embedding;
  finished(parameters_[at(embeddings)].offset);
  ops::embedding_backward(
      {.dtoken_table = parameters_.grad(at(layout_.token_embedding)),
       .dposition_table = layout_.position_embedding < 0
                              ? Tensor{}
                              : parameters_.grad(at(layout_.position_embedding)),
       .tokens = batch.tokens,
       .dout = dx_,
       .seq_len = plan_.seq_len,
       .scratch = scratch_},
      stream);
  finished(parameters_.flat_count());
}

void Transformer::backward_layer(std::size_t index, const DeviceBatch& batch, Stream& stream) {
  const Layer& layer = layout_.layers[index];
  const Activations& act = activations(index);
  backward_mlp(layer, act, stream);
  backward_norm(dx_, dnorm_, act.mid, act.mean2, act.rstd2, layer.norm2, layer.norm2_bias, dx_,
                stream);
  backward_attention(layer, act, batch, stream);
  backward_norm(dx_, dnorm_, residual(index), act.mean1, act.rstd1, layer.norm1, layer.norm1_bias,
                dx_, stream);
}

// dx_ -> dnorm_, the gradient of norm2's output.
void Transformer::backward_mlp(const Layer& layer, const Activations& act, Stream& stream) {
  const auto bias_grad = [&](std::int64_t index, std::size_t n) {
    return index < 0 ? Tensor{} : parameters_.group_grad(at(index), n);
  };
  const Weight down = parameters_.weight(at(layer.down));
  linear_backward_weight(parameters_.grad(at(layer.down)), bias_grad(layer.down_bias, 1), dx_,
                         act.act, scratch_, stream);
  Tensor dup = dup_;
  if (spec_.gated_mlp) {
    dup = act.up;  // swiglu's backward may write over what it read
    linear_backward_input(dact_, dx_, down, Tensor{}, scratch_, stream);
    ops::swiglu_backward({.dgate_up = dup, .dout = dact_, .gate_up = act.up}, stream);
  } else {
    linear_backward_input(dup, dx_, down, /*preactivation=*/act.up, scratch_, stream);
  }
  linear_backward_weight(parameters_.group_grad(at(layer.up), up_parts()),
                         bias_grad(layer.up_bias, up_parts()), dup, act.norm2, scratch_, stream);
  linear_backward_input(dnorm_, dup, parameters_.group_weight(at(layer.up), up_parts()), Tensor{},
                        scratch_, stream);
}

// dx_ -> dnorm_, the gradient of norm1's output.
void Transformer::backward_attention(const Layer& layer, const Activations& act,
                                     const DeviceBatch& batch, Stream& stream) {
  const std::int64_t query = config_.heads * config_.head_dim;
  const std::int64_t key = config_.kv_heads * config_.head_dim;
  const auto bias_grad = [&](std::int64_t index, std::size_t n) {
    return index < 0 ? Tensor{} : parameters_.group_grad(at(index), n);
  };
  linear_backward_weight(parameters_.grad(at(layer.out)), bias_grad(layer.out_bias, 1), dx_,
                         act.attention, scratch_, stream);
  linear_backward_input(dattention_, dx_, parameters_.weight(at(layer.out)), Tensor{}, scratch_,
                        stream);
  ops::attention_backward({.dq = dqkv_.columns(0, query),
                           .dk = dqkv_.columns(query, key),
                           .dv = dqkv_.columns(query + key, key),
                           .dout = dattention_,
                           .q = act.qkv.columns(0, query),
                           .k = act.qkv.columns(query, key),
                           .v = act.qkv.columns(query + key, key),
                           .out = act.attention,
                           .lse = act.lse,
                           .document_starts = batch.document_starts,
                           .shape = attention_shape(),
                           .scratch = scratch_},
                          stream);
  if (rope_table_) {
    ops::rope({.x = dqkv_.columns(0, query + key),
               .table = rope_table_,
               .head_dim = config_.head_dim,
               .seq_len = plan_.seq_len,
               .inverse = true},
              stream);
  }
  linear_backward_weight(parameters_.group_grad(at(layer.qkv), qkv_parts()),
                         bias_grad(layer.qkv_bias, qkv_parts()), dqkv_, act.norm1, scratch_,
                         stream);
  linear_backward_input(dnorm_, dqkv_, parameters_.group_weight(at(layer.qkv), qkv_parts()),
                        Tensor{}, scratch_, stream);
}

void Transformer::backward_norm(const Tensor& dx, const Tensor& dy, const Tensor& x,
                                const Tensor& mean, const Tensor& rstd, std::int64_t weight,
                                std::int64_t bias, const Tensor& residual_grad, Stream& stream) {
  ops::norm_backward({.dx = dx,
                      .dweight = parameters_.grad(at(weight)),
                      .dbias = bias < 0 ? Tensor{} : parameters_.grad(at(bias)),
                      .dy = dy,
                      .x = x,
                      .mean = mean,
                      .rstd = rstd,
                      .weight = optional_weight(weight),
                      .residual_grad = residual_grad,
                      .scratch = scratch_},
                     stream);
}

}  // namespace lockstep
