// The memory plan: parameters, activations, caches.
#include "nn/transformer.h"

#include "nn/rope_scaling.h"

#include <algorithm>
#include <cmath>

namespace lockstep {

Transformer::Transformer(const ModelConfig& config, const TransformerSpec& spec,
                         const ModelPlan& plan, Arena& arena, ScratchBytes scratch_bytes)
    : config_(config),
      spec_(spec),
      plan_(plan),
      rows_(plan.batch * plan.seq_len),
      buffer_rows_(plan.sequences > 0 ? KvCache::padded_rows(rows_) : rows_),
      layout_(lay_out(config, spec)) {
  CHECK(plan_.seq_len <= config_.seq_len, "T {} above the model's {}", plan_.seq_len,
        config_.seq_len);
  CHECK(!plan_.int8_activations || plan_.mode == ModelPlan::Mode::kInference,
        "int8 activations are for inference");
  for (Parameter& parameter : layout_.parameters) parameters_.add(std::move(parameter));
  layout_.parameters.clear();
  parameters_.allocate(arena, plan_.dtype, plan_.mode == ModelPlan::Mode::kTraining,
                       plan_.weight_formats);
  plan_buffers(arena);
  const auto scratch = static_cast<std::int64_t>(scratch_bytes(scratch_query()));
  scratch_ = arena.allocate("scratch", {scratch}, DType::kU8, MemoryGroup::kActivations);
}

void Transformer::plan_buffers(Arena& arena) {
  const ModelConfig& c = config_;
  const bool training = plan_.mode == ModelPlan::Mode::kTraining;
  const auto activation = [&](const char* name, std::int64_t cols) {
    return arena.allocate(name, {buffer_rows_, cols}, plan_.dtype, MemoryGroup::kActivations);
  };
  const auto layers = static_cast<std::size_t>(training ? c.layers : 1);
  for (std::size_t l = 0; l < layers + (training ? 1 : 0); ++l) {
    residual_.push_back(activation("residual", c.hidden));
  }
  for (std::size_t l = 0; l < layers; ++l) {
    activations_.push_back(plan_layer(arena, fmt::format("layer {} ", l)));
  }
  final_ = activation("final norm", c.hidden);
  final_mean_ =
      arena.allocate("final mean", {buffer_rows_}, DType::kF32, MemoryGroup::kActivations);
  final_rstd_ =
      arena.allocate("final rstd", {buffer_rows_}, DType::kF32, MemoryGroup::kActivations);

  const std::int64_t vocab = padded_vocabulary(c.vocab);
  const std::int64_t row_bytes = vocab * static_cast<std::int64_t>(size_of(plan_.dtype));
  std::int64_t chunks = plan_.head_chunks;
  if (chunks == 0) chunks = (rows_ * row_bytes + (1 << 30) - 1) / (1 << 30);
  chunks = std::clamp<std::int64_t>(chunks, 1, rows_);
  logits_ = arena.allocate("logits", {(rows_ + chunks - 1) / chunks, vocab}, plan_.dtype,
                           MemoryGroup::kLogits);
  losses_ = arena.allocate("losses", {rows_}, DType::kF32, MemoryGroup::kLogits);
  correct_ = arena.allocate("correct", {rows_}, DType::kU8, MemoryGroup::kLogits);
  if (!spec_.learned_positions) build_rope_table(arena);
  if (training) {
    dx_ = activation("dx", c.hidden);
    dnorm_ = activation("dnorm", c.hidden);
    dqkv_ = activation("dqkv", qkv_width(c));
    dattention_ = activation("dattention", c.heads * c.head_dim);
    if (spec_.gated_mlp) {
      dact_ = activation("dact", c.ffn);
    } else {
      dup_ = activation("dup", c.ffn);
    }
  }
  if (plan_.sequences > 0) plan_cache(arena);
}

void Transformer::plan_cache(Arena& arena) {
  CHECK(plan_.mode == ModelPlan::Mode::kInference, "sequences are remembered in inference only");
  const std::int64_t tokens =
      plan_.cache_tokens > 0 ? plan_.cache_tokens : plan_.sequences * plan_.sequence_tokens;
  cache_ = KvCache(plan_.sequences, plan_.sequence_tokens, tokens, rows_, arena);
  const std::int64_t width = 2 * config_.kv_heads * config_.head_dim;
  for (std::int64_t l = 0; l < config_.layers; ++l) {
    pages_.push_back(arena.allocate("kv pages", {cache_.page_rows(), width}, plan_.dtype,
                                    MemoryGroup::kActivations));
  }
  const std::int64_t last_rows = KvCache::padded_rows(plan_.sequences);
  decoded_ = arena.allocate("decoded rows", {last_rows, config_.hidden}, plan_.dtype,
                            MemoryGroup::kActivations);
  decode_logits_ = arena.allocate("decode logits", {last_rows, padded_vocabulary(config_.vocab)},
                                  plan_.dtype, MemoryGroup::kLogits);
}

Transformer::Activations Transformer::plan_layer(Arena& arena, const std::string& prefix) {
  const ModelConfig& c = config_;
  const auto activation = [&](const char* name, std::int64_t cols) {
    return arena.allocate(prefix + name, {buffer_rows_, cols}, plan_.dtype,
                          MemoryGroup::kActivations);
  };
  const auto statistic = [&](const char* name) {
    return arena.allocate(prefix + name, {buffer_rows_}, DType::kF32, MemoryGroup::kActivations);
  };
  const bool layer_norm = spec_.norm == NormKind::kLayerNorm;
  Activations act;
  act.norm1 = activation("norm1", c.hidden);
  if (layer_norm) act.mean1 = statistic("mean1");
  act.rstd1 = statistic("rstd1");
  act.qkv = activation("qkv", qkv_width(c));
  act.attention = activation("attention", c.heads * c.head_dim);
  if (plan_.mode == ModelPlan::Mode::kTraining) {
    act.lse = arena.allocate(prefix + "lse", {plan_.batch, c.heads, plan_.seq_len}, DType::kF32,
                             MemoryGroup::kActivations);
  }
  act.mid = activation("mid", c.hidden);
  act.norm2 = activation("norm2", c.hidden);
  if (layer_norm) act.mean2 = statistic("mean2");
  act.rstd2 = statistic("rstd2");
  act.up = activation("up", c.ffn * (spec_.gated_mlp ? 2 : 1));
  act.act = activation("act", c.ffn);
  return act;
}

// Row p: cos(p * f_i) for i < D/2, then the sines; f from rope_frequencies(). As many rows as there
// are positions to compute or to cache, which in inference may be far below the model's context.
void Transformer::build_rope_table(Arena& arena) {
  const std::int64_t dim = config_.head_dim;
  const std::int64_t positions = std::max(plan_.seq_len, plan_.sequence_tokens);
  rope_table_ =
      arena.allocate("rope table", {positions, dim}, DType::kF32, MemoryGroup::kActivations);
  if (arena.dry()) return;
  const std::vector<float> frequencies = rope_frequencies(config_);
  rope_values_.resize(static_cast<std::size_t>(rope_table_.count()));
  for (std::int64_t position = 0; position < positions; ++position) {
    for (std::int64_t i = 0; i < dim / 2; ++i) {
      const float angle = static_cast<float>(position) * frequencies[at(i)];
      const std::size_t cosine = at(position * dim + i);
      rope_values_[cosine] = static_cast<float>(std::cos(static_cast<double>(angle)));
      rope_values_[cosine + at(dim / 2)] = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  }
}

ScratchQuery Transformer::scratch_query() const {
  ScratchQuery query;
  query.attention = attention_shape();
  query.rows = buffer_rows_;
  query.channels =
      std::max({config_.hidden, qkv_width(config_), config_.ffn * (spec_.gated_mlp ? 2 : 1)});
  query.vocab = padded_vocabulary(config_.vocab);
  query.work_items = parameters_.work_item_count();
  query.dtype = plan_.dtype;
  return query;
}

AttentionShape Transformer::attention_shape() const {
  AttentionShape shape;
  shape.batch = plan_.batch;
  shape.q_len = shape.kv_len = shape.kv_rows = plan_.seq_len;
  shape.heads = config_.heads;
  shape.kv_heads = config_.kv_heads;
  shape.head_dim = config_.head_dim;
  return shape;
}

Tensor Transformer::residual(std::size_t layer) const {
  const bool kept = plan_.mode == ModelPlan::Mode::kTraining;
  return residual_[kept ? layer : 0].row_range(0, rows_);
}

const Transformer::Activations& Transformer::activations(std::size_t layer) const {
  return activations_[plan_.mode == ModelPlan::Mode::kTraining ? layer : 0];
}

// The first `count` rows.
Transformer::Activations Transformer::first_rows(const Activations& full,
                                                 std::int64_t count) const {
  const auto statistic = [&](const Tensor& t) { return t ? t.elements(0, count) : Tensor{}; };
  Activations act;
  act.norm1 = full.norm1.row_range(0, count);
  act.mean1 = statistic(full.mean1);
  act.rstd1 = statistic(full.rstd1);
  act.qkv = full.qkv.row_range(0, count);
  act.attention = full.attention.row_range(0, count);
  act.lse = full.lse;
  act.mid = full.mid.row_range(0, count);
  act.norm2 = full.norm2.row_range(0, count);
  act.mean2 = statistic(full.mean2);
  act.rstd2 = statistic(full.rstd2);
  act.up = full.up.row_range(0, count);
  act.act = full.act.row_range(0, count);
  return act;
}

UnitBlock Transformer::unit_block(std::int64_t units, std::int64_t in, std::int64_t in_bias,
                                  std::size_t n, std::int64_t out, std::int64_t out_bias) const {
  UnitBlock block{.units = units, .in = {}, .out = at(out)};
  for (std::size_t i = 0; i < n; ++i) {
    block.in.push_back(at(in) + i);
    if (in_bias >= 0) block.in.push_back(at(in_bias) + i);
  }
  if (out_bias >= 0) block.out_bias = at(out_bias);
  return block;
}

UnitBlock Transformer::feed_forward(std::int64_t layer) const {
  const Layer& l = layout_.layers[at(layer)];
  return unit_block(config_.ffn, l.up, l.up_bias, up_parts(), l.down, l.down_bias);
}

UnitBlock Transformer::attention(std::int64_t layer) const {
  CHECK(qkv_parts() == 3, "q, k and v of a {} are one matrix", config_.architecture);
  const Layer& l = layout_.layers[at(layer)];
  return unit_block(config_.kv_heads, l.qkv, l.qkv_bias, qkv_parts(), l.out, l.out_bias);
}

}  // namespace lockstep
