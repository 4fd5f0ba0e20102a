// Decoding: the same layers over the new rows of several sequences, whose keys and values go into
// pages of their own sequence.
#include "nn/linear.h"
#include "nn/transformer.h"
#include "ops/attention.h"
#include "ops/embedding.h"
#include "ops/rope.h"

namespace lockstep {

Tensor Transformer::decode(std::span<const SequenceInput> inputs, Stream& stream) {
  upload_rope_table(stream);
  const KvCache::Call call = cache_.append(inputs, stream);
  const Tensor x = residual_[0].row_range(0, call.tokens.count());
  ops::embedding_forward({.out = x,
                          .tokens = call.tokens,
                          .token_table = parameters_.weight(at(layout_.token_embedding)),
                          .position_table = optional_weight(layout_.position_embedding),
                          .positions = call.positions},
                         stream);
  for (std::size_t l = 0; l < layout_.layers.size(); ++l) decode_layer(l, x, call, stream);
  const Tensor last = gather_rows(x, call.last_rows, stream);
  const std::int64_t rows = last.rows();
  const Tensor normal = final_.row_range(0, rows);
  const bool layer_norm = spec_.norm == NormKind::kLayerNorm;
  normalize(normal, layer_norm ? final_mean_.elements(0, rows) : Tensor{},
            final_rstd_.elements(0, rows), last, layout_.final_norm, layout_.final_norm_bias,
            stream);
  const Tensor logits = decode_logits_.row_range(0, rows);
  linear_forward({.y = logits,
                  .x = normal,
                  .weight = parameters_.weight(at(layout_.head)),
                  .scratch = scratch_},
                 stream);
  return logits.row_range(0, static_cast<std::int64_t>(inputs.size()));
}

// These rows of x, filled up with what lay behind them.
Tensor Transformer::gather_rows(const Tensor& x, const std::vector<std::int64_t>& rows,
                                Stream& stream) {
  const auto count = static_cast<std::int64_t>(rows.size());
  const Tensor gathered = decoded_.row_range(0, KvCache::padded_rows(count));
  const std::size_t bytes = static_cast<std::size_t>(x.cols()) * size_of(x.dtype);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    stream.copy(static_cast<std::byte*>(gathered.data) + i * bytes, x.row_range(rows[i], 1).data,
                bytes);
  }
  return gathered;
}

void Transformer::decode_layer(std::size_t index, const Tensor& x, const KvCache::Call& call,
                               Stream& stream) {
  const Layer& layer = layout_.layers[index];
  const std::int64_t query = config_.heads * config_.head_dim;
  const std::int64_t key = config_.kv_heads * config_.head_dim;
  const Activations act = first_rows(activations(index), x.rows());
  const Tensor k_pages = pages_[index].columns(0, key);
  const Tensor v_pages = pages_[index].columns(key, key);
  normalize(act.norm1, act.mean1, act.rstd1, x, layer.norm1, layer.norm1_bias, stream);
  qkv_projection(layer, act, x, stream);
  if (rope_table_) {
    ops::rope({.x = act.qkv.columns(0, query + key),
               .table = rope_table_,
               .positions = call.positions,
               .head_dim = config_.head_dim},
              stream);
  }
  ops::paged_append({.k_pages = k_pages,
                     .v_pages = v_pages,
                     .k = act.qkv.columns(query, key),
                     .v = act.qkv.columns(query + key, key),
                     .batch = call.batch},
                    stream);
  ops::paged_attention({.out = act.attention,
                        .q = act.qkv.columns(0, query),
                        .k_pages = k_pages,
                        .v_pages = v_pages,
                        .batch = call.batch,
                        .heads = config_.heads,
                        .kv_heads = config_.kv_heads,
                        .head_dim = config_.head_dim},
                       stream);
  output_projection(layer, act, x, stream);
  mlp_block(layer, act, x, stream);
}

}  // namespace lockstep
