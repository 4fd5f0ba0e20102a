// Writing config.json. transformers 5 checks types strictly, so integers and floats stay what they
// are; what versions 4 and 5 name differently stands under both names.
#include "formats/foreign_family.h"
#include "formats/hf_config.h"

#include <nlohmann/json.hpp>

#include <type_traits>

namespace lockstep {
namespace {

using Json = nlohmann::ordered_json;

std::string torch_dtype(const std::string& dtype) {
  if (dtype == "bf16") return "bfloat16";
  return dtype == "fp16" ? "float16" : "float32";
}

void add_members(Json& out, const JsonMembers& members) {
  for (const JsonMember& member : members) {
    Json& value = out[member.key];
    std::visit(
        [&value](const auto& v) {
          using T = std::decay_t<decltype(v)>;
          if constexpr (std::is_same_v<T, JsonMembers>) {
            add_members(value, v);
          } else if constexpr (!std::is_same_v<T, std::monostate>) {
            value = v;
          }
        },
        member.value);
  }
}

}  // namespace

std::string hf_config_text(const HfConfig& config) {
  const ModelConfig& model = config.model;
  const ForeignFamily& family = foreign_family(model);
  JsonMembers shape;
  family.write_config(shape, model);
  Json out;
  out["architectures"] = {family.hugging_face_class()};
  out["model_type"] = family.name();
  add_members(out, shape);
  out["initializer_range"] = model.init_std;
  // An id of null keeps transformers from taking its own default for another vocabulary.
  out["bos_token_id"] = config.bos_token_id >= 0 ? Json(config.bos_token_id) : Json();
  const auto& ends = config.eos_token_ids;
  out["eos_token_id"] = ends.empty() ? Json() : ends.size() == 1 ? Json(ends[0]) : Json(ends);
  out["torch_dtype"] = out["dtype"] = torch_dtype(config.dtype);
  out["use_cache"] = true;
  if (!config.quantization.empty()) {
    out["quantization_config"] = Json::parse(config.quantization);
  }
  return out.dump(2) + "\n";
}

}  // namespace lockstep
