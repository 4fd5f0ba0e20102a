// ConfigRegistry: every configuration key, registered once over one Options. From that one
// registration come the command-line options, the TOML keys, the dump, the difference printed on
// resume and the table in docs/configuration.md.
// Precedence: command line, then the file, then the preset (resolve() fills what is still 0 or
// empty), then the default. Load the file first, then apply the command line.
#pragma once

#include "app/config_value.h"
#include "trainer/options.h"

#include <string>
#include <vector>

namespace lockstep {

class CommandFlags;

class ConfigRegistry {
 public:
  // `options` must outlive the registry; its values at this moment are the defaults.
  explicit ConfigRegistry(Options& options);
  ConfigRegistry(const ConfigRegistry&) = delete;
  ConfigRegistry& operator=(const ConfigRegistry&) = delete;

  // In section order; within a section in the order of --help.
  const std::vector<ConfigKey>& keys() const { return keys_; }
  const std::vector<std::string>& sections() const { return sections_; }
  const ConfigKey* find(const std::string& full_name) const;

  // Adds --section.key for every key, grouped by section. Parsing only collects the values;
  // apply_command_line() sets them.
  void add_options(CommandFlags& flags);
  // Reads TOML. Throws UserError(kConfig) with "file:line:column: ..." for syntax, unknown sections
  // and keys (nearest named), wrong types and values out of range.
  void load_file(const std::string& path);
  void load_text(const std::string& toml, const std::string& file_name);
  // Throws UserError(kConfig) with "--section.key=value: ...".
  void apply_command_line();

  // All keys as TOML; loading it gives the same values, bit for bit.
  std::string dump() const;

  // What to offer for a name that is not a key: "; did you mean optimizer.lr?", or the keys of the
  // section, or "". The name may lack its section.
  std::string suggestion(const std::string& name) const;
  // Where the key's value came from ("small.toml:7:6", "command line"); "" if it is the default.
  std::string source(const std::string& full_name) const;

 private:
  void register_run();
  void register_model();
  void register_own_keys();
  void register_data_and_train();
  void register_optimizer();
  void register_precision_and_comm();
  void register_rest();
  void add(const std::string& name, ConfigKey::Target target, std::string description,
           ValueRule rule = {});
  std::size_t index_of(const std::string& full_name) const;  // keys_.size() if there is none

  struct Given {
    std::size_t key = 0;  // index into keys_
    std::string text;
  };

  Options& options_;
  std::vector<std::string> sections_;
  std::vector<ConfigKey> keys_;
  std::vector<Given> command_line_;  // as collected by add_options()
};

struct ConfigDifference {
  std::string key;
  std::string before;  // as TOML
  std::string after;
};
std::vector<ConfigDifference> config_differences(const Options& before, const Options& after);

std::string toml_version();  // of toml++, as compiled

}  // namespace lockstep
