// The declaration of a transformer's parameters.
#include "nn/transformer_spec.h"

#include <utility>

namespace lockstep {
namespace {

class Declaration {
 public:
  Declaration(const ModelConfig& config, const TransformerSpec& spec) : c_(config), spec_(spec) {}

  TransformerLayout run() {
    if (!spec_.tied) layout_.head = table("lm_head", c_.vocab, /*vocabulary=*/true);
    norm(spec_.final_norm, layout_.final_norm, layout_.final_norm_bias);
    layout_.layers.resize(static_cast<std::size_t>(c_.layers));
    for (std::int64_t l = c_.layers - 1; l >= 0; --l) layer(l);
    if (spec_.learned_positions) {
      layout_.position_embedding =
          table(spec_.position_embedding, c_.seq_len, /*vocabulary=*/false);
    }
    layout_.token_embedding = table(spec_.token_embedding, c_.vocab, /*vocabulary=*/true);
    if (spec_.tied) layout_.head = layout_.token_embedding;
    return std::move(layout_);
  }

 private:
  std::int64_t add(Parameter parameter) {
    layout_.parameters.push_back(std::move(parameter));
    return static_cast<std::int64_t>(layout_.parameters.size()) - 1;
  }

  std::int64_t table(const std::string& name, std::int64_t rows, bool vocabulary) {
    return add({.name = name + ".weight",
                .shape = {rows, c_.hidden},
                .kind = ParameterKind::kTable,
                .decay = true,
                .init = Init::kNormal,
                .init_std = spec_.init_std,
                .pad_rows = vocabulary});
  }

  void norm(const std::string& name, std::int64_t& weight, std::int64_t& bias) {
    weight = add({.name = name + ".weight", .shape = {c_.hidden}, .init = Init::kOnes});
    if (spec_.norm == NormKind::kLayerNorm) {
      bias = add({.name = name + ".bias", .shape = {c_.hidden}});
    }
  }

  // One linear map under one or more names, whose rows lie one behind the other; biases likewise.
  struct Map {
    const std::vector<std::string>& names;
    std::vector<std::int64_t> rows;  // per name
    std::int64_t in = 0;
    float std = 0.0f;
    bool has_bias = false;
  };
  void map(const std::string& base, const Map& map, std::int64_t& weight, std::int64_t& bias) {
    for (std::size_t i = 0; i < map.names.size(); ++i) {
      const std::int64_t at = add({.name = base + map.names[i] + ".weight",
                                   .shape = {map.rows[i], map.in},
                                   .kind = ParameterKind::kLinear,
                                   .decay = true,
                                   .init = Init::kNormal,
                                   .init_std = map.std,
                                   .joined = i > 0});
      if (i == 0) weight = at;
    }
    for (std::size_t i = 0; map.has_bias && i < map.names.size(); ++i) {
      const std::int64_t at =
          add({.name = base + map.names[i] + ".bias", .shape = {map.rows[i]}, .joined = i > 0});
      if (i == 0) bias = at;
    }
  }

  void layer(std::int64_t index) {
    const std::string base = fmt::format("{}{}.", spec_.layer, index);
    TransformerLayout::Layer& at = layout_.layers[static_cast<std::size_t>(index)];
    const std::int64_t query = c_.heads * c_.head_dim, key = c_.kv_heads * c_.head_dim;
    const std::vector<std::string> down = {spec_.down}, out = {spec_.out};
    std::vector<std::int64_t> qkv_rows = {query, key, key};
    if (spec_.qkv.size() == 1) qkv_rows = {qkv_width(c_)};
    map(base, {down, {c_.hidden}, c_.ffn, spec_.residual_std, spec_.mlp_bias}, at.down,
        at.down_bias);
    map(base, {spec_.up, {c_.ffn, c_.ffn}, c_.hidden, spec_.init_std, spec_.mlp_bias}, at.up,
        at.up_bias);
    norm(base + spec_.norm2, at.norm2, at.norm2_bias);
    map(base, {out, {c_.hidden}, query, spec_.residual_std, spec_.out_bias}, at.out, at.out_bias);
    map(base, {spec_.qkv, qkv_rows, c_.hidden, spec_.init_std, spec_.qkv_bias}, at.qkv,
        at.qkv_bias);
    norm(base + spec_.norm1, at.norm1, at.norm1_bias);
  }

  const ModelConfig& c_;
  const TransformerSpec& spec_;
  TransformerLayout layout_;
};

}  // namespace

TransformerLayout lay_out(const ModelConfig& config, const TransformerSpec& spec) {
  return Declaration(config, spec).run();
}

}  // namespace lockstep
