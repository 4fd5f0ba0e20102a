// Inference with a KV cache: the same layers over the new rows of one sequence, whose keys and
// values are written straight into the cache by a gemm of their own.
#include "nn/linear.h"
#include "nn/transformer.h"
#include "ops/attention.h"
#include "ops/rope.h"

namespace lockstep {
Tensor Transformer::append(const Tensor& tokens, std::int64_t position, Stream& stream) {
  const std::int64_t count = tokens.count();
  CHECK(count > 0 && count <= rows_, "{} tokens at once, at most {}", count, rows_);
  CHECK(position + count <= plan_.cache_tokens, "position {} + {} in a cache of {}", position,
        count, plan_.cache_tokens);
  const Tensor x = residual(0).row_range(0, count);
  embed(tokens, x, count, position, stream);
  for (std::size_t l = 0; l < layout_.layers.size(); ++l) append_layer(l, x, position, stream);
  const bool layer_norm = spec_.norm == NormKind::kLayerNorm;
  const Tensor last = final_.row_range(0, 1);
  normalize(last, layer_norm ? final_mean_.elements(0, 1) : Tensor{}, final_rstd_.elements(0, 1),
            x.row_range(count - 1, 1), layout_.final_norm, layout_.final_norm_bias, stream);
  const Tensor logits = logits_.row_range(0, 1);
  linear_forward(
      {.y = logits, .x = last, .weight = parameters_.weight(at(layout_.head)), .scratch = scratch_},
      stream);
  return logits;
}

// The first `count` rows of the buffers that all layers share in inference; qkv holds only q here.
Transformer::Activations Transformer::first_rows(std::int64_t count) const {
  const Activations& full = activations(0);
  const auto statistic = [&](const Tensor& t) { return t ? t.elements(0, count) : Tensor{}; };
  Activations act;
  act.norm1 = full.norm1.row_range(0, count);
  act.mean1 = statistic(full.mean1);
  act.rstd1 = statistic(full.rstd1);
  act.qkv = Tensor(full.qkv.data, {count, config_.heads * config_.head_dim}, full.qkv.dtype,
                   full.qkv.device);
  act.attention = full.attention.row_range(0, count);
  act.mid = full.mid.row_range(0, count);
  act.norm2 = full.norm2.row_range(0, count);
  act.mean2 = statistic(full.mean2);
  act.rstd2 = statistic(full.rstd2);
  act.up = full.up.row_range(0, count);
  act.act = full.act.row_range(0, count);
  return act;
}

// q = x Wq^T and k | v = x Wkv^T, rotated where the model has rotary positions.
void Transformer::append_projections(const Layer& layer, const Tensor& q, const Tensor& kv,
                                     const Tensor& x, std::int64_t position, Stream& stream) {
  const std::int64_t query = q.cols();
  const std::int64_t both = kv.cols();
  const Tensor weight = parameters_.group_weight(at(layer.qkv), qkv_parts());
  Tensor bias_q, bias_kv;
  if (layer.qkv_bias >= 0) {
    const Tensor bias = parameters_.group_weight(at(layer.qkv_bias), qkv_parts());
    bias_q = bias.elements(0, query);
    bias_kv = bias.elements(query, both);
  }
  linear_forward(
      {.y = q, .x = x, .weight = weight.row_range(0, query), .bias = bias_q, .scratch = scratch_},
      stream);
  linear_forward({.y = kv,
                  .x = x,
                  .weight = weight.row_range(query, both),
                  .bias = bias_kv,
                  .scratch = scratch_},
                 stream);
  if (!rope_table_) return;
  for (const Tensor& part : {q, kv.columns(0, both / 2)}) {
    ops::rope({.x = part,
               .table = rope_table_,
               .head_dim = config_.head_dim,
               .seq_len = x.rows(),
               .position_offset = position},
              stream);
  }
}

void Transformer::append_layer(std::size_t index, const Tensor& x, std::int64_t position,
                               Stream& stream) {
  const Layer& layer = layout_.layers[index];
  const std::int64_t count = x.rows();
  const std::int64_t key = config_.kv_heads * config_.head_dim;
  const Activations act = first_rows(count);
  const Tensor& cache = cache_[index];
  normalize(act.norm1, act.mean1, act.rstd1, x, layer.norm1, layer.norm1_bias, stream);
  round_input(act.norm1, stream);
  append_projections(layer, act.qkv, cache.row_range(position, count), act.norm1, position, stream);

  AttentionShape shape = attention_shape();
  shape.batch = 1;
  shape.q_len = count;
  shape.kv_len = position + count;
  shape.kv_rows = plan_.cache_tokens;
  shape.q_offset = position;
  ops::attention_forward({.out = act.attention,
                          .q = act.qkv,
                          .k = cache.columns(0, key),
                          .v = cache.columns(key, key),
                          .shape = shape},
                         stream);
  output_projection(layer, act, x, stream);
  mlp_block(layer, act, x, stream);
}

}  // namespace lockstep
