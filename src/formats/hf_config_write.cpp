// Writing config.json. transformers 5 checks types strictly, so integers and floats stay what they
// are; what versions 4 and 5 name differently stands under both names.
#include "core/error.h"
#include "formats/hf_config.h"

#include <nlohmann/json.hpp>

namespace lockstep {
namespace {

using Json = nlohmann::ordered_json;

std::string torch_dtype(const std::string& dtype) {
  if (dtype == "bf16") return "bfloat16";
  return dtype == "fp16" ? "float16" : "float32";
}

void write_gpt2(Json& out, const ModelConfig& model) {
  out["vocab_size"] = model.vocab;
  out["n_positions"] = out["n_ctx"] = model.seq_len;
  out["n_embd"] = model.hidden;
  out["n_layer"] = model.layers;
  out["n_head"] = model.heads;
  out["n_inner"] = model.ffn;
  out["activation_function"] = "gelu_new";
  out["layer_norm_epsilon"] = model.norm_eps;
  // The model was trained without dropout; left out, these would be 0.1.
  out["attn_pdrop"] = out["embd_pdrop"] = out["resid_pdrop"] = 0.0;
  out["scale_attn_weights"] = true;
}

Json rope_object(const RopeScaling& scaling) {
  Json out;
  switch (scaling.kind) {
    case RopeScaling::Kind::kNone: out["rope_type"] = "default"; return out;
    case RopeScaling::Kind::kLinear:
      out["rope_type"] = "linear";
      out["factor"] = scaling.factor;
      return out;
    case RopeScaling::Kind::kLlama3: break;
  }
  out["rope_type"] = "llama3";
  out["factor"] = scaling.factor;
  out["low_freq_factor"] = scaling.low_freq_factor;
  out["high_freq_factor"] = scaling.high_freq_factor;
  out["original_max_position_embeddings"] = static_cast<std::int64_t>(scaling.original_context);
  return out;
}

void write_llama(Json& out, const ModelConfig& model) {
  out["vocab_size"] = model.vocab;
  out["max_position_embeddings"] = model.seq_len;
  out["hidden_size"] = model.hidden;
  out["intermediate_size"] = model.ffn;
  out["num_hidden_layers"] = model.layers;
  out["num_attention_heads"] = model.heads;
  out["num_key_value_heads"] = model.kv_heads;
  out["head_dim"] = model.head_dim;
  out["hidden_act"] = "silu";
  out["rms_norm_eps"] = model.norm_eps;
  const RopeScaling scaling = parse_rope_scaling(model.rope_scaling);
  out["rope_theta"] = model.rope_theta;
  out["rope_scaling"] = scaling.kind == RopeScaling::Kind::kNone ? Json() : rope_object(scaling);
  out["rope_parameters"] = rope_object(scaling);
  out["rope_parameters"]["rope_theta"] = model.rope_theta;
  out["attention_dropout"] = 0.0;
  if (model.architecture == "llama") {
    out["attention_bias"] = model.qkv_bias();
    out["mlp_bias"] = model.ffn_bias();
  } else {
    out["use_sliding_window"] = false;
    out["sliding_window"] = nullptr;
    out["max_window_layers"] = model.layers;
  }
}

// Shapes that Hugging Face's classes cannot be told.
void require_expressible(const ModelConfig& model) {
  const bool own_biases = model.architecture == "llama" || model.qkv_bias();
  if (!own_biases ||
      (model.architecture != "llama" && model.ffn_bias() != (model.architecture == "gpt2"))) {
    fail(ExitCode::kData,
         "model.attention_bias and model.mlp_bias: Hugging Face's {} always has its own biases; "
         "train with both left empty, or with model.architecture = llama",
         model.architecture);
  }
}

}  // namespace

std::string hf_config_text(const HfConfig& config) {
  const ModelConfig& model = config.model;
  require_expressible(model);
  const bool gpt2 = model.architecture == "gpt2";
  const char* name = gpt2                            ? "GPT2LMHeadModel"
                     : model.architecture == "qwen2" ? "Qwen2ForCausalLM"
                                                     : "LlamaForCausalLM";
  Json out;
  out["architectures"] = {name};
  out["model_type"] = model.architecture;
  gpt2 ? write_gpt2(out, model) : write_llama(out, model);
  out["tie_word_embeddings"] = model.tied();
  out["initializer_range"] = model.init_std;
  // An id of null keeps transformers from taking its own default for another vocabulary.
  out["bos_token_id"] = config.bos_token_id >= 0 ? Json(config.bos_token_id) : Json();
  out["eos_token_id"] = config.eos_token_id >= 0 ? Json(config.eos_token_id) : Json();
  out["torch_dtype"] = out["dtype"] = torch_dtype(config.dtype);
  out["use_cache"] = true;
  if (!config.quantization.empty()) {
    out["quantization_config"] = Json::parse(config.quantization);
  }
  return out.dump(2) + "\n";
}

}  // namespace lockstep
