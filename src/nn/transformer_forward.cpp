// Forward: embedding, layers, and the head with its loss.
#include "nn/linear.h"
#include "nn/transformer.h"
#include "ops/attention.h"
#include "ops/classifier.h"
#include "ops/embedding.h"
#include "ops/norm.h"
#include "ops/rope.h"
#include "ops/round_rows.h"
#include "ops/swiglu.h"

#include <algorithm>

namespace lockstep {

Tensor Transformer::optional_weight(std::int64_t index) const { return bias(index, 1); }

Tensor Transformer::bias(std::int64_t index, std::size_t n) const {
  return index < 0 ? Tensor{} : parameters_.group_weight(at(index), n).data;
}

// In place: nothing else reads what goes into a linear map, in inference.
void Transformer::before_product(std::int64_t first, std::size_t n, const Tensor& x,
                                 const Tensor& residual, Stream& stream) {
  if (plan_.int8_activations) ops::round_rows({.out = x, .x = x}, stream);
  if (tap_ == nullptr) return;
  (*tap_)(std::span(parameters_.all()).subspan(at(first), n), x, residual);
}

void Transformer::check(const DeviceBatch& batch) const {
  CHECK(batch.tokens && !batch.features && !batch.mask,
        "a transformer reads tokens; targets below 0 are its mask");
}

void Transformer::upload_rope_table(Stream& stream) {
  if (rope_uploaded_ || !rope_table_) return;
  stream.copy(rope_table_.data, rope_values_.data(), rope_table_.bytes());
  stream.synchronize();
  rope_uploaded_ = true;
}

void Transformer::enter(const Tensor& x, const DeviceBatch& batch, Stream& stream) {
  check(batch);
  upload_rope_table(stream);
  ops::embedding_forward({.out = x,
                          .tokens = batch.tokens,
                          .token_table = parameters_.weight(at(layout_.token_embedding)),
                          .position_table = optional_weight(layout_.position_embedding),
                          .seq_len = plan_.seq_len},
                         stream);
}

void Transformer::normalize(const Tensor& out, const Tensor& mean, const Tensor& rstd,
                            const Tensor& x, std::int64_t weight, std::int64_t bias,
                            Stream& stream) {
  ops::norm_forward({.out = out,
                     .mean = mean,
                     .rstd = rstd,
                     .x = x,
                     .weight = optional_weight(weight),
                     .bias = optional_weight(bias),
                     .eps = static_cast<float>(config_.norm_eps)},
                    stream);
}

void Transformer::forward(const DeviceBatch& batch, Stream& stream) {
  enter(residual(0), batch, stream);
  for (std::size_t l = 0; l < layout_.layers.size(); ++l) {
    run_layer(l, residual(l + 1), residual(l), batch, stream);
  }
  final_norm(residual(layout_.layers.size()), stream);
}

void Transformer::final_norm(const Tensor& x, Stream& stream) {
  const bool layer_norm = spec_.norm == NormKind::kLayerNorm;
  normalize(final_.row_range(0, rows_), layer_norm ? final_mean_.elements(0, rows_) : Tensor{},
            final_rstd_.elements(0, rows_), x, layout_.final_norm, layout_.final_norm_bias, stream);
}

void Transformer::forward_layer(std::int64_t index, const Tensor& out, const Tensor& x,
                                const DeviceBatch& batch, const LayerTap& tap, Stream& stream) {
  CHECK(plan_.mode == ModelPlan::Mode::kInference, "single layers are for inference");
  check(batch);
  tap_ = tap ? &tap : nullptr;
  run_layer(at(index), out, x, batch, stream);
  tap_ = nullptr;
}

void Transformer::run_layer(std::size_t index, const Tensor& out, const Tensor& x,
                            const DeviceBatch& batch, Stream& stream) {
  const Layer& layer = layout_.layers[index];
  const Activations act = first_rows(activations(index), rows_);
  normalize(act.norm1, act.mean1, act.rstd1, x, layer.norm1, layer.norm1_bias, stream);
  attention_block(layer, act, x, batch, stream);
  output_projection(layer, act, x, stream);
  mlp_block(layer, act, out, stream);
}

void Transformer::qkv_projection(const Layer& layer, const Activations& act, const Tensor& x,
                                 Stream& stream) {
  before_product(layer.qkv, qkv_parts(), act.norm1, x, stream);
  linear_forward({.y = act.qkv,
                  .x = act.norm1,
                  .weight = parameters_.group_weight(at(layer.qkv), qkv_parts()),
                  .bias = bias(layer.qkv_bias, qkv_parts()),
                  .scratch = scratch_},
                 stream);
}

void Transformer::attention_block(const Layer& layer, const Activations& act, const Tensor& x,
                                  const DeviceBatch& batch, Stream& stream) {
  const std::int64_t query = config_.heads * config_.head_dim;
  const std::int64_t key = config_.kv_heads * config_.head_dim;
  qkv_projection(layer, act, x, stream);
  if (rope_table_) {
    ops::rope({.x = act.qkv.columns(0, query + key),
               .table = rope_table_,
               .head_dim = config_.head_dim,
               .seq_len = plan_.seq_len},
              stream);
  }
  ops::attention_forward({.out = act.attention,
                          .lse = act.lse,
                          .q = act.qkv.columns(0, query),
                          .k = act.qkv.columns(query, key),
                          .v = act.qkv.columns(query + key, key),
                          .document_starts = batch.document_starts,
                          .shape = attention_shape()},
                         stream);
}

// mid = attention Wo^T + x
void Transformer::output_projection(const Layer& layer, const Activations& act, const Tensor& x,
                                    Stream& stream) {
  before_product(layer.out, 1, act.attention, x, stream);
  linear_forward({.y = act.mid,
                  .x = act.attention,
                  .weight = parameters_.weight(at(layer.out)),
                  .bias = optional_weight(layer.out_bias),
                  .residual = x,
                  .scratch = scratch_},
                 stream);
}

void Transformer::mlp_block(const Layer& layer, const Activations& act, const Tensor& out,
                            Stream& stream) {
  normalize(act.norm2, act.mean2, act.rstd2, act.mid, layer.norm2, layer.norm2_bias, stream);
  before_product(layer.up, up_parts(), act.norm2, act.mid, stream);
  LinearForward up{.y = act.act,
                   .x = act.norm2,
                   .weight = parameters_.group_weight(at(layer.up), up_parts()),
                   .bias = bias(layer.up_bias, up_parts()),
                   .scratch = scratch_};
  if (spec_.gated_mlp) {
    up.y = act.up;
  } else {
    up.preactivation = act.up;
  }
  linear_forward(up, stream);
  if (spec_.gated_mlp) ops::swiglu_forward({.out = act.act, .gate_up = act.up}, stream);
  before_product(layer.down, 1, act.act, act.mid, stream);
  linear_forward({.y = out,
                  .x = act.act,
                  .weight = parameters_.weight(at(layer.down)),
                  .bias = optional_weight(layer.down_bias),
                  .residual = act.mid,
                  .scratch = scratch_},
                 stream);
}

// Chunk by chunk, so that the logits of all rows never exist at once.
void Transformer::head(const Tensor& targets, const StepState* state, bool backward,
                       Stream& stream) {
  const Weight weight = parameters_.weight(at(layout_.head));
  for (std::int64_t begin = 0; begin < rows_; begin += logit_rows()) {
    const std::int64_t count = std::min(logit_rows(), rows_ - begin);
    const Tensor x = final_.row_range(begin, count);
    const Tensor logits = this->logits(begin, count, stream);
    ops::classifier({.logits = logits,
                     .losses = losses_.elements(begin, count),
                     .correct = backward ? Tensor{} : correct_.elements(begin, count),
                     .targets = targets.elements(begin, count),
                     .vocab = config_.vocab,
                     .write_gradient = backward,
                     .state = state},
                    stream);
    if (!backward) continue;
    linear_backward_input(dnorm_.row_range(begin, count), logits, weight, Tensor{}, scratch_,
                          stream);
    linear_backward_weight(parameters_.grad(at(layout_.head)), Tensor{}, logits, x, scratch_,
                           stream);
  }
}

Tensor Transformer::logits(std::int64_t begin, std::int64_t count, Stream& stream) {
  const Tensor logits = logits_.row_range(0, count);
  linear_forward({.y = logits,
                  .x = final_.row_range(begin, count),
                  .weight = parameters_.weight(at(layout_.head)),
                  .scratch = scratch_},
                 stream);
  return logits;
}

void Transformer::evaluate(const DeviceBatch& batch, const Tensor& totals, Stream& stream) {
  forward(batch, stream);
  judge(batch, totals, stream);
}

// Losses of final_.
void Transformer::judge(const DeviceBatch& batch, const Tensor& totals, Stream& stream) {
  head(batch.targets, nullptr, /*backward=*/false, stream);
  ops::loss_totals(
      {.totals = totals, .losses = losses_, .correct = correct_, .targets = batch.targets}, stream);
}

void Transformer::leave(const Tensor& x, const DeviceBatch& batch, const Tensor& totals,
                        Stream& stream) {
  final_norm(x, stream);
  judge(batch, totals, stream);
}

}  // namespace lockstep
