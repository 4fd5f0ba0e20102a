// Fields of JSON objects that come from files: read with their type checked, or the file is named.
#pragma once

#include "core/error.h"

#include <string>
#include <string_view>

namespace lockstep {

// Text from a file as a message may show it: on one line, and the beginning only.
std::string shown(std::string_view text);

template <typename Json>
std::string string_field(const Json& object, const char* key, const std::string& origin) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) {
    fail(ExitCode::kData, "{}: '{}' is missing or no string", origin, key);
  }
  return found->template get<std::string>();
}

template <typename Json>
bool bool_field(const Json& object, const char* key, bool absent, const std::string& origin) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return absent;
  if (!found->is_boolean())
    fail(ExitCode::kData, "{}: '{}' is neither true nor false", origin, key);
  return found->template get<bool>();
}

}  // namespace lockstep
