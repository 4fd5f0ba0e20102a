// Tensor names, and config.json keys of the Llama lineage.
#include "formats/foreign_transformer.h"

#include "core/error.h"
#include "nn/rope_scaling.h"

#include <array>

namespace lockstep {
namespace {

using Limits = ModelLimits;

// "model.layers.3.mlp.up_proj.weight" as layer "3", part "mlp.up_proj" and suffix "weight".
struct SplitName {
  std::string layer;  // "" outside the layers
  std::string part;
  std::string suffix;
};

SplitName split_name(const TransformerSpec& spec, const std::string& name) {
  SplitName split;
  const std::size_t dot = name.rfind('.');
  split.part = name.substr(0, dot);
  split.suffix = name.substr(dot + 1);
  if (split.part.starts_with(spec.layer)) {
    const std::size_t begin = spec.layer.size();
    const std::size_t end = split.part.find('.', begin);
    split.layer = split.part.substr(begin, end - begin);
    split.part = split.part.substr(end + 1);
  }
  return split;
}

// Between "blk.N." and ".weight" in a GGUF.
std::string gguf_part(const TransformerSpec& spec, const std::string& part) {
  if (part == spec.token_embedding) return "token_embd";
  if (part == spec.position_embedding) return "position_embd";
  if (part == spec.final_norm) return "output_norm";
  if (part == "lm_head") return "output";
  if (part == spec.norm1) return "attn_norm";
  if (part == spec.out) return "attn_output";
  if (part == spec.norm2) return "ffn_norm";
  if (part == spec.down) return "ffn_down";
  constexpr std::array<const char*, 3> kQueryKeyValue = {"attn_q", "attn_k", "attn_v"};
  for (std::size_t i = 0; i < spec.qkv.size(); ++i) {
    if (part == spec.qkv[i]) return spec.qkv.size() == 1 ? "attn_qkv" : kQueryKeyValue[i];
  }
  for (std::size_t i = 0; i < spec.up.size(); ++i) {
    if (part == spec.up[i]) return i + 1 == spec.up.size() ? "ffn_up" : "ffn_gate";
  }
  CHECK(false, "{} has no name in GGUF", part);
}

// `keys` is what holds the type and its numbers: rope_scaling, or transformers 5's rope_parameters.
std::string read_rope_scaling(const JsonKeys& keys) {
  const char* type = keys.has("rope_type") ? "rope_type" : "type";
  keys.require_text(type, {"default", "linear", "llama3"}, "default");
  const std::string kind = keys.text_or(type, "default");
  if (kind == "default") return "";
  RopeScaling scaling;
  scaling.kind = kind == "linear" ? RopeScaling::Kind::kLinear : RopeScaling::Kind::kLlama3;
  scaling.factor = keys.number_or("factor", std::nullopt);
  if (scaling.factor < 1.0) keys.refuse("factor", "must be at least 1");
  if (kind == "llama3") {
    scaling.low_freq_factor = keys.number_or("low_freq_factor", std::nullopt);
    scaling.high_freq_factor = keys.number_or("high_freq_factor", std::nullopt);
    scaling.original_context =
        static_cast<double>(keys.integer("original_max_position_embeddings", Limits::kSeqLen));
    if (scaling.low_freq_factor >= scaling.high_freq_factor) {
      keys.refuse("low_freq_factor", "must be below high_freq_factor");
    }
  }
  return rope_scaling_text(scaling);
}

void read_rope(ModelConfig& config, const JsonKeys& keys) {
  config.rope_theta = keys.number_or("rope_theta", 10000.0);
  if (keys.number_or("partial_rotary_factor", 1.0) != 1.0) {
    keys.refuse("partial_rotary_factor", "is not supported, only 1.0");
  }
  if (const auto scaling = keys.object("rope_scaling")) {
    config.rope_scaling = read_rope_scaling(*scaling);
  }
  const auto parameters = keys.object("rope_parameters");
  if (!parameters) return;
  for (const std::string& key : parameters->objects()) {
    parameters->refuse(key, "layers of several kinds");
  }
  if (parameters->number_or("partial_rotary_factor", 1.0) != 1.0) {
    parameters->refuse("partial_rotary_factor", "is not supported, only 1.0");
  }
  const double theta = parameters->number_or("rope_theta", config.rope_theta);
  if (keys.has("rope_theta") && theta != config.rope_theta) {
    parameters->refuse("rope_theta", fmt::format("contradicts rope_theta = {}", config.rope_theta));
  }
  const std::string scaling = read_rope_scaling(*parameters);
  if (keys.has("rope_scaling") && scaling != config.rope_scaling) {
    parameters->refuse("rope_type", "contradicts rope_scaling");
  }
  config.rope_theta = theta;
  config.rope_scaling = scaling;
}

JsonMembers rope_object(const RopeScaling& scaling) {
  switch (scaling.kind) {
    case RopeScaling::Kind::kNone: return {{"rope_type", "default"}};
    case RopeScaling::Kind::kLinear: return {{"rope_type", "linear"}, {"factor", scaling.factor}};
    case RopeScaling::Kind::kLlama3: break;
  }
  return {
      {"rope_type", "llama3"},
      {"factor", scaling.factor},
      {"low_freq_factor", scaling.low_freq_factor},
      {"high_freq_factor", scaling.high_freq_factor},
      {"original_max_position_embeddings", static_cast<std::int64_t>(scaling.original_context)}};
}

}  // namespace

ForeignTensor ForeignTransformer::tensor(const ModelConfig& config, const Parameter& parameter,
                                         Naming naming) const {
  if (naming == Naming::kHuggingFace) {
    const bool linear = parameter.kind == ParameterKind::kLinear;
    return {parameter.name, linear ? hugging_face_layout() : RowLayout::kSame};
  }
  const TransformerSpec spec = transformer_spec(config);
  const SplitName split = split_name(spec, parameter.name);
  const std::string part = gguf_part(spec, split.part);
  const bool rotated = part == "attn_q" || part == "attn_k";
  return {split.layer.empty() ? fmt::format("{}.{}", part, split.suffix)
                              : fmt::format("blk.{}.{}.{}", split.layer, part, split.suffix),
          rotated ? gguf_query_layout() : RowLayout::kSame};
}

bool ForeignTransformer::is_buffer(const ModelConfig&, const std::string& name) const {
  return name.ends_with("rotary_emb.inv_freq") || name == "rope_freqs.weight";
}

std::string ForeignTransformer::repeats(const ModelConfig& config, const std::string& name) const {
  const TransformerSpec spec = transformer_spec(config);
  const bool head = name == "lm_head.weight" || name == "output.weight";
  return head && spec.tied ? spec.token_embedding + ".weight" : "";
}

void read_llama_config(ModelConfig& config, const JsonKeys& keys) {
  config.layers = keys.integer("num_hidden_layers", Limits::kLayers);
  config.heads = keys.integer("num_attention_heads", Limits::kHeads);
  config.hidden = keys.integer("hidden_size", Limits::kHidden);
  config.ffn = keys.integer("intermediate_size", Limits::kFfn);
  config.seq_len = keys.integer("max_position_embeddings", Limits::kSeqLen);
  config.head_dim = keys.integer_or("head_dim", Limits::kHeadDim, /*fallback=*/0);
  config.norm_eps = keys.number_or("rms_norm_eps", 1e-6);
  keys.require_text("hidden_act", {"silu", "swish"}, "silu");
  read_rope(config, keys);
  config.tie_embeddings = keys.boolean_or("tie_word_embeddings", false) ? "true" : "false";
}

void write_llama_config(JsonMembers& out, const ModelConfig& config) {
  out.push_back({"vocab_size", config.vocab});
  out.push_back({"max_position_embeddings", config.seq_len});
  out.push_back({"hidden_size", config.hidden});
  out.push_back({"intermediate_size", config.ffn});
  out.push_back({"num_hidden_layers", config.layers});
  out.push_back({"num_attention_heads", config.heads});
  out.push_back({"num_key_value_heads", config.kv_heads});
  out.push_back({"head_dim", config.head_dim});
  out.push_back({"hidden_act", "silu"});
  out.push_back({"rms_norm_eps", config.norm_eps});
  const RopeScaling scaling = parse_rope_scaling(config.rope_scaling);
  const JsonMembers rope = rope_object(scaling);
  JsonMembers parameters = rope;
  parameters.push_back({"rope_theta", config.rope_theta});
  out.push_back({"rope_theta", config.rope_theta});
  out.push_back({"rope_scaling", {}});
  if (scaling.kind != RopeScaling::Kind::kNone) out.back().value = rope;
  out.push_back({"rope_parameters", parameters});
  out.push_back({"attention_dropout", 0.0});
}

void require_own_biases(const ModelConfig& config) {
  ModelConfig plain = config;
  plain.attention_bias.clear();
  plain.mlp_bias.clear();
  const TransformerSpec ours = transformer_spec(config), theirs = transformer_spec(plain);
  if (ours.qkv_bias == theirs.qkv_bias && ours.mlp_bias == theirs.mlp_bias) return;
  fail(ExitCode::kData,
       "model.attention_bias and model.mlp_bias: Hugging Face's {} always has its own biases; "
       "train with both left empty, or with model.architecture = llama",
       config.architecture);
}

}  // namespace lockstep
