// The registry at work: command-line options, dump, differences and suggestions.
// The keys themselves stand in config_keys.cpp, the TOML reader in config_file.cpp.
#include "app/config.h"

#include "app/flags.h"
#include "core/error.h"

#include <algorithm>

namespace lockstep {
namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

}  // namespace

void ConfigRegistry::add(const std::string& name, ConfigKey::Target target, std::string description,
                         ValueRule rule) {
  const std::size_t dot = name.find('.');
  CHECK(dot != std::string::npos && find(name) == nullptr, "key {}", name);
  ConfigKey key{.section = name.substr(0, dot),
                .name = name.substr(dot + 1),
                .target = target,
                .description = std::move(description),
                .rule = std::move(rule)};
  key.default_value = to_toml(key);
  if (sections_.empty() || sections_.back() != key.section) sections_.push_back(key.section);
  keys_.push_back(std::move(key));
}

std::size_t ConfigRegistry::index_of(const std::string& full_name) const {
  const auto found = std::find_if(keys_.begin(), keys_.end(),
                                  [&](const ConfigKey& key) { return key.full() == full_name; });
  return static_cast<std::size_t>(found - keys_.begin());
}

const ConfigKey* ConfigRegistry::find(const std::string& full_name) const {
  const std::size_t index = index_of(full_name);
  return index < keys_.size() ? &keys_[index] : nullptr;
}

void ConfigRegistry::add_options(CommandFlags& flags) {
  for (std::size_t index = 0; index < keys_.size(); ++index) {
    const ConfigKey& key = keys_[index];
    // A list may be repeated; of any other key the last one counts, as with scripts that append
    // their own overrides.
    flags.add_key({.name = "--" + key.full(),
                   .kind = type_name(key),
                   .group = "[" + key.section + "]",
                   .help = fmt::format("{}; {} (default {})", key.description, expectation(key),
                                       key.default_value),
                   .is_list = std::holds_alternative<std::vector<std::string>*>(key.target),
                   .take = [this, index](const std::vector<std::string>& texts) {
                     command_line_.push_back({index, joined(texts)});
                   }});
  }
}

void ConfigRegistry::apply_command_line() {
  for (const Given& given : command_line_) {
    ConfigKey& key = keys_[given.key];
    const auto problem = assign(key, value_from_text(key, given.text));
    if (problem) {
      fail(ExitCode::kConfig, "--{}={}: {}", key.full(), given.text, *problem);
    }
    key.source = "command line";
  }
}

std::string ConfigRegistry::dump() const {
  std::string out;
  for (const std::string& section : sections_) {
    out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", section);
    for (const ConfigKey& key : keys_) {
      if (key.section == section) out += fmt::format("{} = {}\n", key.name, to_toml(key));
    }
  }
  return out;
}

std::string ConfigRegistry::suggestion(const std::string& name) const {
  const std::size_t dot = name.find('.');
  const std::string section = dot == std::string::npos ? "" : name.substr(0, dot);
  const std::string last = dot == std::string::npos ? name : name.substr(dot + 1);
  // The right key under the wrong section, or without one, is meant before any similar spelling.
  std::vector<std::string> all, here;
  for (const ConfigKey& key : keys_) {
    if (key.name == last) return fmt::format("; did you mean {}?", key.full());
    all.push_back(key.full());
    if (key.section == section) here.push_back(key.name);
  }
  std::string near = nearest(last, here);
  if (!near.empty()) return fmt::format("; did you mean {}.{}?", section, near);
  if (!here.empty()) return fmt::format("; the keys of [{}] are {}", section, joined(here));
  near = nearest(name, all);
  if (!near.empty()) return fmt::format("; did you mean {}?", near);
  near = nearest(section, sections_);
  return near.empty() ? "; the sections are " + joined(sections_)
                      : fmt::format("; did you mean section {}?", near);
}

std::string ConfigRegistry::source(const std::string& full_name) const {
  const ConfigKey* key = find(full_name);
  return key == nullptr ? "" : key->source;
}

std::vector<ConfigDifference> config_differences(const Options& before, const Options& after) {
  Options old_options = before, new_options = after;
  const ConfigRegistry old_keys(old_options), new_keys(new_options);
  std::vector<ConfigDifference> differences;
  for (std::size_t i = 0; i < old_keys.keys().size(); ++i) {
    const ConfigKey& key = old_keys.keys()[i];
    const std::string old_value = to_toml(key), new_value = to_toml(new_keys.keys()[i]);
    if (old_value != new_value) differences.push_back({key.full(), old_value, new_value});
  }
  return differences;
}

}  // namespace lockstep
