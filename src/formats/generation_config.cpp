// Keys that are not ids pass as they came.
#include "formats/generation_config.h"

#include "formats/json_keys.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace lockstep {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kBos = "bos_token_id";
constexpr const char* kEos = "eos_token_id";

// What the file says under `key`, each id once; `otherwise` where it says nothing.
std::vector<std::int32_t> ids_of(const JsonKeys& keys, const char* key, std::int64_t vocab,
                                 const std::vector<std::int32_t>& otherwise) {
  if (!keys.has(key)) return otherwise;
  std::vector<std::int32_t> ids;
  for (const std::int64_t id : keys.token_ids(key)) {
    if (id < 0 || id >= vocab || std::find(ids.begin(), ids.end(), id) != ids.end()) continue;
    ids.push_back(static_cast<std::int32_t>(id));
  }
  return ids;
}

Json spelled(const std::vector<std::int32_t>& ids) {
  if (ids.empty()) return nullptr;
  return ids.size() == 1 ? Json(ids.front()) : Json(ids);
}

void put_ids(Json& root, const char* key, const std::vector<std::int32_t>& ids) {
  if (root.contains(key) || !ids.empty()) root[key] = spelled(ids);
}

GenerationConfig compose(Json root, std::int32_t bos, std::vector<std::int32_t> eos) {
  put_ids(root, kBos, bos < 0 ? std::vector<std::int32_t>{} : std::vector{bos});
  put_ids(root, kEos, eos);
  GenerationConfig config;
  if (!root.empty()) config.text = root.dump(2, ' ', false, Json::error_handler_t::replace);
  config.bos = bos;
  config.eos = std::move(eos);
  return config;
}

Json object_of(const GenerationConfig& config) {
  return config.text.empty() ? Json::object() : Json::parse(config.text);
}

}  // namespace

GenerationConfig parse_generation_config(const std::string& text, const std::string& path,
                                         std::int64_t vocab, std::int32_t bos,
                                         const std::vector<std::int32_t>& eos) {
  const std::string object = text.empty() ? "{}" : text;
  const JsonKeys keys = JsonKeys::parse(object, path);
  std::vector<std::int32_t> begins;
  if (bos >= 0) begins.push_back(bos);
  begins = ids_of(keys, kBos, vocab, begins);
  return compose(Json::parse(object), begins.empty() ? -1 : begins.front(),
                 ids_of(keys, kEos, vocab, eos));
}

GenerationConfig with_end_token(const GenerationConfig& config, std::int32_t end) {
  const bool known = std::find(config.eos.begin(), config.eos.end(), end) != config.eos.end();
  if (end < 0 || known) return config;
  std::vector<std::int32_t> eos = config.eos;
  eos.push_back(end);
  return compose(object_of(config), config.bos, std::move(eos));
}

GenerationConfig completed(const GenerationConfig& config, const TokenTable& table) {
  std::vector<std::int32_t> eos = config.eos;
  if (eos.empty() && table.eos >= 0) eos.push_back(table.eos);
  return compose(object_of(config), config.bos < 0 ? table.bos : config.bos, std::move(eos));
}

}  // namespace lockstep
