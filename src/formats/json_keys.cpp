// Reading the members of a JSON object.
#include "formats/json_keys.h"

#include "core/error.h"
#include "core/json_nesting.h"

#include <nlohmann/json.hpp>

#include <limits>

namespace lockstep {

using nlohmann::json;

struct JsonKeys::Object {
  json value;

  const json* find(const std::string& key) const {
    const auto found = value.find(key);
    return found == value.end() || found->is_null() ? nullptr : &*found;
  }
};

namespace {

std::string text_of(const json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/true, json::error_handler_t::replace);
}

bool is_token_id(const json& value) {
  return value.is_number_integer() && value.get<double>() >= -1.0 &&
         value.get<double>() <= static_cast<double>(std::numeric_limits<std::int32_t>::max());
}

}  // namespace

JsonKeys::JsonKeys(std::shared_ptr<const Object> object, std::string path, std::string prefix)
    : object_(std::move(object)), path_(std::move(path)), prefix_(std::move(prefix)) {}

JsonKeys JsonKeys::parse(const std::string& text, const std::string& path) {
  check_json_nesting(text, path);
  json root = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) {
    fail(ExitCode::kData, "{}: not a JSON object; copy the model's config.json again", path);
  }
  return {std::make_shared<const Object>(Object{std::move(root)}), path, ""};
}

bool JsonKeys::has(const std::string& key) const { return object_->find(key) != nullptr; }

void JsonKeys::refuse(const std::string& key, const std::string& why) const {
  std::string value = "is missing";
  if (const json* found = object_->find(key)) {
    value = text_of(*found);
    value = "= " + (value.size() > 60 ? value.substr(0, 60) + "..." : value);
  }
  fail(ExitCode::kData, "{}: key '{}{}' {}: {}", path_, prefix_, key, value, why);
}

std::int64_t JsonKeys::integer(const char* key, std::int64_t most) const {
  const json* value = object_->find(key);
  if (value == nullptr) refuse(key, "this model cannot be built without it");
  const bool small = value->is_number_integer() &&
                     !(value->is_number_unsigned() &&
                       value->get<std::uint64_t>() > static_cast<std::uint64_t>(most));
  if (!small || value->get<std::int64_t>() < 1 || value->get<std::int64_t>() > most) {
    refuse(key, fmt::format("must be an integer between 1 and {}", most));
  }
  return value->get<std::int64_t>();
}

std::int64_t JsonKeys::integer_or(const char* key, std::int64_t most, std::int64_t fallback) const {
  return has(key) ? integer(key, most) : fallback;
}

double JsonKeys::number_or(const char* key, std::optional<double> fallback) const {
  const json* value = object_->find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || !value->is_number()) refuse(key, "must be a number");
  const auto number = value->get<double>();
  if (!(number > 0.0 && number < 1e30)) refuse(key, "must be above 0 and finite");
  return number;
}

bool JsonKeys::boolean_or(const char* key, bool fallback) const {
  const json* value = object_->find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) refuse(key, "must be true or false");
  return value->get<bool>();
}

std::string JsonKeys::text_or(const char* key, const std::string& fallback) const {
  const json* value = object_->find(key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) refuse(key, "must be a text");
  return value->get<std::string>();
}

std::vector<std::int64_t> JsonKeys::token_ids(const char* key) const {
  const json* value = object_->find(key);
  if (value == nullptr) return {};
  const json list = value->is_array() ? *value : json::array({*value});
  std::vector<std::int64_t> ids;
  for (const json& id : list) {
    if (!is_token_id(id)) refuse(key, "must be a token id, or a list of them");
    ids.push_back(id.get<std::int64_t>());
  }
  return ids;
}

std::optional<JsonKeys> JsonKeys::object(const char* key) const {
  const json* value = object_->find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) refuse(key, "must be an object");
  return JsonKeys(std::make_shared<const Object>(Object{*value}), path_, prefix_ + key + ".");
}

std::vector<std::string> JsonKeys::objects() const {
  std::vector<std::string> names;
  for (const auto& [key, value] : object_->value.items()) {
    if (value.is_object()) names.push_back(key);
  }
  return names;
}

std::string JsonKeys::dump() const { return text_of(object_->value); }

void JsonKeys::require(const char* key, bool wanted, bool fallback) const {
  if (boolean_or(key, fallback) == wanted) return;
  refuse(key, fmt::format("is not supported, only {}", wanted));
}

void JsonKeys::require_text(const char* key, std::initializer_list<const char*> supported,
                            const char* fallback) const {
  const std::string value = text_or(key, fallback);
  std::string names;
  for (const char* word : supported) {
    if (value == word) return;
    names += (names.empty() ? "" : ", ") + std::string(word);
  }
  refuse(key, "is not supported, only " + names);
}

std::string json_version() {
  return fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR,
                     NLOHMANN_JSON_VERSION_PATCH);
}

}  // namespace lockstep
