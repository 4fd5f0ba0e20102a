// Metadata as texts, numbers and sizes.
#include "formats/gguf_keys.h"

#include "core/error.h"

#include <charconv>
#include <cmath>
#include <type_traits>

namespace lockstep {
namespace {

template <typename T>
std::optional<double> as_number(const T& value) {
  if constexpr (std::is_same_v<T, float>) {
    const std::string text = fmt::format("{}", value);
    double number = std::nan("");
    std::from_chars(text.data(), text.data() + text.size(), number);
    return number;
  } else if constexpr (std::is_arithmetic_v<T>) {
    return static_cast<double>(value);
  } else {
    return std::nullopt;
  }
}

}  // namespace

std::optional<std::string> GgufKeys::text(const std::string& key) const {
  const auto at = file_.metadata().find(key);
  if (at == file_.metadata().end()) return std::nullopt;
  if (const auto* value = std::get_if<std::string>(&at->second)) return *value;
  fail(ExitCode::kData, "{}: key {} is no string", path_, key);
}

std::optional<double> GgufKeys::number(const std::string& key) const {
  const auto at = file_.metadata().find(key);
  if (at == file_.metadata().end()) return std::nullopt;
  const std::optional<double> value =
      std::visit([](const auto& v) { return as_number(v); }, at->second);
  if (!value || !std::isfinite(*value)) {
    fail(ExitCode::kData, "{}: key {} is no number (one value for all layers is supported)", path_,
         key);
  }
  return value;
}

std::optional<std::int64_t> GgufKeys::size(const std::string& key) const {
  const std::optional<double> value = number(key);
  if (!value) return std::nullopt;
  if (*value < 1.0 || *value > 0x1p31 || *value != std::floor(*value)) {
    fail(ExitCode::kData, "{}: key {} = {} is no size", path_, key, *value);
  }
  return static_cast<std::int64_t>(*value);
}

void GgufKeys::fail_missing(const std::string& key) const {
  fail(ExitCode::kData, "{}: key {} is missing; it is no model file", path_, key);
}

}  // namespace lockstep
