// Parameter names here are Hugging Face's; GGUF's are put together from a table of parts.
#include "formats/foreign_names.h"

#include "nn/model.h"

#include <array>
#include <string_view>

namespace lockstep {
namespace {

struct Part {
  std::string_view ours;  // between "transformer.h.N." or "model.layers.N." and ".weight"
  std::string_view gguf;  // between "blk.N." and ".weight"
};
constexpr std::array<Part, 15> kLayerParts = {{
    {"ln_1", "attn_norm"},
    {"attn.c_attn", "attn_qkv"},
    {"attn.c_proj", "attn_output"},
    {"ln_2", "ffn_norm"},
    {"mlp.c_fc", "ffn_up"},
    {"mlp.c_proj", "ffn_down"},
    {"input_layernorm", "attn_norm"},
    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"},
    {"post_attention_layernorm", "ffn_norm"},
    {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},
}};
constexpr std::array<Part, 6> kOtherParts = {{
    {"transformer.wte", "token_embd"},
    {"transformer.wpe", "position_embd"},
    {"transformer.ln_f", "output_norm"},
    {"model.embed_tokens", "token_embd"},
    {"model.norm", "output_norm"},
    {"lm_head", "output"},
}};

template <std::size_t N>
std::string_view gguf_part(const std::array<Part, N>& parts, std::string_view ours) {
  for (const Part& part : parts) {
    if (part.ours == ours) return part.gguf;
  }
  return {};
}

struct SplitName {
  std::string layer;  // "" outside the layers
  std::string part;
  std::string suffix;  // "weight" or "bias"
};

SplitName split_name(const std::string& name) {
  SplitName split;
  const std::size_t dot = name.rfind('.');
  split.part = name.substr(0, dot);
  split.suffix = name.substr(dot + 1);
  for (const std::string_view prefix : {"transformer.h.", "model.layers."}) {
    if (!split.part.starts_with(prefix)) continue;
    const std::size_t end = split.part.find('.', prefix.size());
    split.layer = split.part.substr(prefix.size(), end - prefix.size());
    split.part = split.part.substr(end + 1);
  }
  return split;
}

ForeignTensor in_gguf(const ModelConfig& config, const std::string& name) {
  const SplitName split = split_name(name);
  const std::string_view part =
      split.layer.empty() ? gguf_part(kOtherParts, split.part) : gguf_part(kLayerParts, split.part);
  CHECK(!part.empty(), "{} has no name in GGUF", name);
  ForeignTensor foreign;
  foreign.name = split.layer.empty() ? fmt::format("{}.{}", part, split.suffix)
                                     : fmt::format("blk.{}.{}.{}", split.layer, part, split.suffix);
  if (config.architecture == "llama" && (part == "attn_q" || part == "attn_k")) {
    foreign.layout = RowLayout::kRotaryPairs;
  }
  return foreign;
}

ForeignTensor in_hugging_face(const ModelConfig& config, const std::string& name) {
  ForeignTensor foreign{name, RowLayout::kSame};
  const SplitName split = split_name(name);
  const bool projection = split.part.starts_with("attn.") || split.part.starts_with("mlp.");
  if (config.learned_positions() && projection && split.suffix == "weight") {
    foreign.layout = RowLayout::kTransposed;
  }
  return foreign;
}

}  // namespace

ForeignTensor foreign_tensor(const ModelConfig& config, const Parameter& parameter, Naming naming) {
  return naming == Naming::kGguf ? in_gguf(config, parameter.name)
                                 : in_hugging_face(config, parameter.name);
}

std::vector<Parameter> declared_parameters(const ModelConfig& config) {
  Arena dry(DeviceKind::kCpu);
  ModelPlan plan;
  plan.mode = ModelPlan::Mode::kInference;
  const auto model = make_model(
      config, plan, dry, +[](const ScratchQuery&) { return std::size_t{1}; });
  return model->parameters().all();
}

}  // namespace lockstep
