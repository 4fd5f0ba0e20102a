// JSON of configuration files, read and written without naming a JSON library: JsonKeys reads the
// members of one object, each failure naming file and key; JsonMembers are what to write, in order.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace lockstep {

class JsonKeys {
 public:
  // The object that `text` is. Throws UserError(kData) naming `path` when it is none.
  static JsonKeys parse(const std::string& text, const std::string& path);

  // Null counts as absent, as in transformers.
  bool has(const std::string& key) const;
  // Throws UserError(kData): file, key, its value as far as a line holds it, and `why`.
  [[noreturn]] void refuse(const std::string& key, const std::string& why) const;

  // Every getter refuses a value of another kind. Integers lie between 1 and `most`; numbers are
  // above 0 and finite.
  std::int64_t integer(const char* key, std::int64_t most) const;
  std::int64_t integer_or(const char* key, std::int64_t most, std::int64_t fallback) const;
  double number_or(const char* key, std::optional<double> fallback) const;
  bool boolean_or(const char* key, bool fallback) const;
  std::string text_or(const char* key, const std::string& fallback) const;
  // A token id or a list of them; empty when absent. -1 stands for none.
  std::vector<std::int64_t> token_ids(const char* key) const;
  // A member that is an object itself; its keys are then named "key.".
  std::optional<JsonKeys> object(const char* key) const;
  // Names of members that are objects.
  std::vector<std::string> objects() const;
  // The whole object as compact JSON, ASCII only.
  std::string dump() const;

  // Everything but `wanted` changes the arithmetic into something that is not here.
  void require(const char* key, bool wanted, bool fallback) const;
  void require_text(const char* key, std::initializer_list<const char*> supported,
                    const char* fallback) const;

  const std::string& path() const { return path_; }

 private:
  struct Object;
  JsonKeys(std::shared_ptr<const Object> object, std::string path, std::string prefix);

  std::shared_ptr<const Object> object_;
  std::string path_;
  std::string prefix_;  // where it stands in the file: "rope_scaling." or ""
};

struct JsonMember;
using JsonMembers = std::vector<JsonMember>;
using JsonValue =
    std::variant<std::monostate, bool, std::int64_t, double, std::string, JsonMembers>;
struct JsonMember {
  std::string key;
  JsonValue value;  // monostate: null
};

std::string json_version();  // of nlohmann-json, as compiled

}  // namespace lockstep
