// Declaration of the parameters by Hugging Face's names, and the memory plan of the activations.
#include "nn/transformer.h"

#include <algorithm>
#include <cmath>

namespace lockstep {

Transformer::Transformer(const ModelConfig& config, const ModelPlan& plan, Arena& arena,
                         ScratchBytes scratch_bytes)
    : config_(config), plan_(plan), rows_(plan.batch * plan.seq_len) {
  CHECK(plan_.seq_len <= config_.seq_len, "T {} above the model's {}", plan_.seq_len,
        config_.seq_len);
  CHECK(!plan_.int8_activations || plan_.mode == ModelPlan::Mode::kInference,
        "int8 activations are for inference");
  declare_parameters();
  parameters_.allocate(arena, plan_.dtype, plan_.mode == ModelPlan::Mode::kTraining);
  plan_buffers(arena);
  const auto scratch = static_cast<std::int64_t>(scratch_bytes(scratch_query()));
  scratch_ = arena.allocate("scratch", {scratch}, DType::kU8, MemoryGroup::kActivations);
}

std::int64_t Transformer::declare(const std::string& name, Shape shape, Init init, float std,
                                  bool joined) {
  Parameter parameter;
  parameter.name = name;
  parameter.shape = shape;
  parameter.decay = shape.rank() > 1;
  parameter.init = init;
  parameter.init_std = std;
  return static_cast<std::int64_t>(parameters_.add(std::move(parameter), joined));
}

// One row per vocabulary entry.
std::int64_t Transformer::declare_table(const std::string& name) {
  Parameter parameter;
  parameter.name = name;
  parameter.shape = {config_.vocab, config_.hidden};
  parameter.decay = true;
  parameter.init = Init::kNormal;
  parameter.init_std = static_cast<float>(config_.init_std);
  parameter.pad_rows = true;
  return static_cast<std::int64_t>(parameters_.add(std::move(parameter)));
}

void Transformer::declare_norm(const std::string& name, std::int64_t& weight, std::int64_t& bias) {
  weight = declare(name + ".weight", {config_.hidden}, Init::kOnes);
  bias = config_.norm() == NormKind::kLayerNorm
             ? declare(name + ".bias", {config_.hidden}, Init::kZeros)
             : -1;
}

// In the order in which backward finishes the gradients: head, last layer to first, embeddings.
void Transformer::declare_parameters() {
  const auto std = static_cast<float>(config_.init_std);
  const bool gpt2 = config_.learned_positions();
  if (!config_.tied()) head_ = declare_table("lm_head.weight");
  declare_norm(gpt2 ? "transformer.ln_f" : "model.norm", final_norm_, final_norm_bias_);
  layers_.resize(static_cast<std::size_t>(config_.layers));
  for (std::int64_t layer = config_.layers - 1; layer >= 0; --layer) declare_layer(layer);
  if (gpt2) {
    position_embedding_ =
        declare("transformer.wpe.weight", {config_.seq_len, config_.hidden}, Init::kNormal, std);
  }
  token_embedding_ = declare_table(gpt2 ? "transformer.wte.weight" : "model.embed_tokens.weight");
  if (config_.tied()) head_ = token_embedding_;
}

void Transformer::declare_layer(std::int64_t index) {
  const ModelConfig& c = config_;
  const bool gpt2 = c.learned_positions();
  const std::string base =
      gpt2 ? fmt::format("transformer.h.{}.", index) : fmt::format("model.layers.{}.", index);
  const auto std = static_cast<float>(c.init_std);
  // GPT-2 scales the projections into the residual stream by 1 / sqrt(number of such layers).
  const float residual_std = gpt2 ? std / std::sqrt(2.0f * static_cast<float>(c.layers)) : std;
  Layer& layer = layers_[static_cast<std::size_t>(index)];

  // `names` are joined into one matrix; biases likewise.
  const auto projection = [&](const std::vector<std::pair<std::string, std::int64_t>>& names,
                              std::int64_t in, float weight_std, bool bias,
                              std::int64_t& weight_index, std::int64_t& bias_index) {
    for (std::size_t i = 0; i < names.size(); ++i) {
      const std::int64_t at = declare(base + names[i].first + ".weight", {names[i].second, in},
                                      Init::kNormal, weight_std, /*joined=*/i > 0);
      if (i == 0) weight_index = at;
    }
    bias_index = -1;
    if (!bias) return;
    for (std::size_t i = 0; i < names.size(); ++i) {
      const std::int64_t at = declare(base + names[i].first + ".bias", {names[i].second},
                                      Init::kZeros, 0.0f, /*joined=*/i > 0);
      if (i == 0) bias_index = at;
    }
  };
  const std::int64_t query = c.heads * c.head_dim;
  const std::int64_t key = c.kv_heads * c.head_dim;
  if (gpt2) {
    projection({{"mlp.c_proj", c.hidden}}, c.ffn, residual_std, c.ffn_bias(), layer.down,
               layer.down_bias);
    projection({{"mlp.c_fc", c.ffn}}, c.hidden, std, c.ffn_bias(), layer.up, layer.up_bias);
    declare_norm(base + "ln_2", layer.norm2, layer.norm2_bias);
    projection({{"attn.c_proj", c.hidden}}, query, residual_std, c.out_bias(), layer.out,
               layer.out_bias);
    projection({{"attn.c_attn", c.qkv_width()}}, c.hidden, std, c.qkv_bias(), layer.qkv,
               layer.qkv_bias);
    declare_norm(base + "ln_1", layer.norm1, layer.norm1_bias);
  } else {
    projection({{"mlp.down_proj", c.hidden}}, c.ffn, std, c.ffn_bias(), layer.down,
               layer.down_bias);
    projection({{"mlp.gate_proj", c.ffn}, {"mlp.up_proj", c.ffn}}, c.hidden, std, c.ffn_bias(),
               layer.up, layer.up_bias);
    declare_norm(base + "post_attention_layernorm", layer.norm2, layer.norm2_bias);
    projection({{"self_attn.o_proj", c.hidden}}, query, std, c.out_bias(), layer.out,
               layer.out_bias);
    projection({{"self_attn.q_proj", query}, {"self_attn.k_proj", key}, {"self_attn.v_proj", key}},
               c.hidden, std, c.qkv_bias(), layer.qkv, layer.qkv_bias);
    declare_norm(base + "input_layernorm", layer.norm1, layer.norm1_bias);
  }
}

void Transformer::plan_buffers(Arena& arena) {
  const ModelConfig& c = config_;
  const bool training = plan_.mode == ModelPlan::Mode::kTraining;
  const auto activation = [&](const char* name, std::int64_t cols) {
    return arena.allocate(name, {rows_, cols}, plan_.dtype, MemoryGroup::kActivations);
  };
  const auto layers = static_cast<std::size_t>(training ? c.layers : 1);
  for (std::size_t l = 0; l < layers + (training ? 1 : 0); ++l) {
    residual_.push_back(activation("residual", c.hidden));
  }
  for (std::size_t l = 0; l < layers; ++l) {
    activations_.push_back(plan_layer(arena, fmt::format("layer {} ", l)));
  }
  final_ = activation("final norm", c.hidden);
  final_mean_ = arena.allocate("final mean", {rows_}, DType::kF32, MemoryGroup::kActivations);
  final_rstd_ = arena.allocate("final rstd", {rows_}, DType::kF32, MemoryGroup::kActivations);

  const std::int64_t row_bytes = c.padded_vocab() * static_cast<std::int64_t>(size_of(plan_.dtype));
  chunks_ = plan_.head_chunks;
  if (chunks_ == 0) chunks_ = (rows_ * row_bytes + (1 << 30) - 1) / (1 << 30);
  chunks_ = std::clamp<std::int64_t>(chunks_, 1, rows_);
  logits_ = arena.allocate("logits", {(rows_ + chunks_ - 1) / chunks_, c.padded_vocab()},
                           plan_.dtype, MemoryGroup::kLogits);
  losses_ = arena.allocate("losses", {rows_}, DType::kF32, MemoryGroup::kLogits);
  correct_ = arena.allocate("correct", {rows_}, DType::kU8, MemoryGroup::kLogits);
  if (!c.learned_positions()) build_rope_table(arena);
  if (training) {
    dx_ = activation("dx", c.hidden);
    dnorm_ = activation("dnorm", c.hidden);
    dqkv_ = activation("dqkv", c.qkv_width());
    dattention_ = activation("dattention", c.heads * c.head_dim);
    if (c.gated_mlp()) {
      dact_ = activation("dact", c.ffn);
    } else {
      dup_ = activation("dup", c.ffn);
    }
  }
  for (std::int64_t l = 0; plan_.cache_tokens > 0 && l < c.layers; ++l) {
    cache_.push_back(arena.allocate("kv cache", {plan_.cache_tokens, 2 * c.kv_heads * c.head_dim},
                                    plan_.dtype, MemoryGroup::kActivations));
  }
}

Transformer::Activations Transformer::plan_layer(Arena& arena, const std::string& prefix) {
  const ModelConfig& c = config_;
  const auto activation = [&](const char* name, std::int64_t cols) {
    return arena.allocate(prefix + name, {rows_, cols}, plan_.dtype, MemoryGroup::kActivations);
  };
  const auto statistic = [&](const char* name) {
    return arena.allocate(prefix + name, {rows_}, DType::kF32, MemoryGroup::kActivations);
  };
  const bool layer_norm = c.norm() == NormKind::kLayerNorm;
  Activations act;
  act.norm1 = activation("norm1", c.hidden);
  if (layer_norm) act.mean1 = statistic("mean1");
  act.rstd1 = statistic("rstd1");
  act.qkv = activation("qkv", c.qkv_width());
  act.attention = activation("attention", c.heads * c.head_dim);
  if (plan_.mode == ModelPlan::Mode::kTraining) {
    act.lse = arena.allocate(prefix + "lse", {plan_.batch, c.heads, plan_.seq_len}, DType::kF32,
                             MemoryGroup::kActivations);
  }
  act.mid = activation("mid", c.hidden);
  act.norm2 = activation("norm2", c.hidden);
  if (layer_norm) act.mean2 = statistic("mean2");
  act.rstd2 = statistic("rstd2");
  act.up = activation("up", c.ffn * (c.gated_mlp() ? 2 : 1));
  act.act = activation("act", c.ffn);
  return act;
}

// Row p: cos(p * f_i) for i < D/2, then the sines; f from rope_frequencies(). As many rows as there
// are positions to compute or to cache, which in inference may be far below the model's context.
void Transformer::build_rope_table(Arena& arena) {
  const std::int64_t dim = config_.head_dim;
  const std::int64_t positions = std::max(plan_.seq_len, plan_.cache_tokens);
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
  query.rows = rows_;
  query.channels =
      std::max({config_.hidden, config_.qkv_width(), config_.ffn * (config_.gated_mlp() ? 2 : 1)});
  query.vocab = config_.padded_vocab();
  query.parameters = parameters_.flat_count();
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
  return residual_[plan_.mode == ModelPlan::Mode::kTraining ? layer : 0];
}

const Transformer::Activations& Transformer::activations(std::size_t layer) const {
  return activations_[plan_.mode == ModelPlan::Mode::kTraining ? layer : 0];
}

}  // namespace lockstep
