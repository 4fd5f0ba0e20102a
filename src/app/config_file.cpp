// TOML into the registry, through toml++ (the only includer). Entries are taken in the order of the
// file, so that the first mistake of the file is the one reported, with its line and column.
#include "app/config.h"

#include "core/error.h"

#include <toml++/toml.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <optional>
#include <sstream>

namespace lockstep {
namespace {

std::string place(const std::string& file, const toml::source_position& position) {
  return fmt::format("{}:{}:{}", file, position.line, position.column);
}

struct Entry {
  std::string name;
  toml::source_position position;  // of the name
  const toml::node* node = nullptr;
};

bool before(const toml::source_position& a, const toml::source_position& b) {
  return a.line != b.line ? a.line < b.line : a.column < b.column;
}

std::vector<Entry> in_file_order(const toml::table& table) {
  std::vector<Entry> entries;
  for (const auto& [key, node] : table) {
    entries.push_back({std::string(key.str()), key.source().begin, &node});
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return before(a.position, b.position); });
  return entries;
}

// The node as a neutral value, or nothing for kinds that no key takes (tables, dates, mixed lists).
std::optional<ConfigValue> value_of(const toml::node& node) {
  if (const auto* v = node.as_boolean()) return v->get();
  if (const auto* v = node.as_integer()) return v->get();
  if (const auto* v = node.as_floating_point()) return v->get();
  if (const auto* v = node.as_string()) return v->get();
  const toml::array* array = node.as_array();
  if (array == nullptr) return std::nullopt;
  std::vector<std::string> list;
  for (const toml::node& item : *array) {
    const auto* text = item.as_string();
    if (text == nullptr) return std::nullopt;
    list.push_back(text->get());
  }
  return list;
}

std::string kind_of(const toml::node& node) {
  if (node.is_table()) return "a table";
  if (node.is_array()) return "a list that is not all texts";
  return "a date or time";
}

}  // namespace

void ConfigRegistry::load_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  // Opening a directory succeeds; only reading it fails.
  if (!file || (file.peek(), file.bad())) {
    fail(ExitCode::kConfig, "{}: cannot read the config file: {}", path, errno_text(errno));
  }
  if (file.peek() != std::ifstream::traits_type::eof()) text << file.rdbuf();
  load_text(text.str(), path);
}

void ConfigRegistry::load_text(const std::string& toml, const std::string& file_name) {
  toml::table root;
  try {
    root = toml::parse(toml, file_name);
  } catch (const toml::parse_error& error) {
    fail(ExitCode::kConfig, "{}: {}", place(file_name, error.source().begin), error.description());
  }
  for (const Entry& section : in_file_order(root)) {
    const std::string where = place(file_name, section.position);
    const toml::table* table = section.node->as_table();
    if (table == nullptr) {
      fail(ExitCode::kConfig, "{}: key {} stands outside any [section]{}", where, section.name,
           suggestion(section.name));
    }
    if (std::find(sections_.begin(), sections_.end(), section.name) == sections_.end()) {
      const std::string near = nearest(section.name, sections_);
      fail(ExitCode::kConfig, "{}: unknown section [{}]{}", where, section.name,
           near.empty() ? "" : fmt::format("; did you mean [{}]?", near));
    }
    for (const Entry& entry : in_file_order(*table)) {
      const std::string name = section.name + "." + entry.name;
      const std::size_t index = index_of(name);
      if (index == keys_.size()) {
        fail(ExitCode::kConfig, "{}: unknown key {}{}", place(file_name, entry.position), name,
             suggestion(name));
      }
      ConfigKey& key = keys_[index];
      const std::string at = place(file_name, entry.node->source().begin);
      const auto value = value_of(*entry.node);
      const auto problem =
          value ? assign(key, *value)
                : fmt::format("expected {}, got {}", expectation(key), kind_of(*entry.node));
      if (problem) fail(ExitCode::kConfig, "{}: {}: {}", at, name, *problem);
      key.source = at;
    }
  }
}

std::string toml_version() {
  return fmt::format("{}.{}.{}", TOML_LIB_MAJOR, TOML_LIB_MINOR, TOML_LIB_PATCH);
}

}  // namespace lockstep
