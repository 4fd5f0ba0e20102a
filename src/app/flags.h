// Flags: what the program and its commands take on the command line, and what --help says of it.
// CLI11 does the work and is known to flags.cpp alone: its headers cost more to compile than a
// command does.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace lockstep {

// A flag or argument that has just been added; each call says more about it.
class Flag {
 public:
  explicit Flag(CLI::Option* option) : option_(option) {}

  Flag& required();
  Flag& one_of(const std::vector<std::string>& words);
  Flag& at_least_zero();
  Flag& positive();
  Flag& within(int low, int high);        // both included
  Flag& within(double low, double high);  // both included
  Flag& comma_separated();                // "1,2" is two values
  Flag& called(const std::string& kind);  // of its value in --help: "INT", or nothing
  Flag& shows_default();                  // --help tells the target's present value

 private:
  CLI::Option* option_;
};

// Where a value goes; it must outlive the parsing.
using FlagTarget =
    std::variant<int*, std::int64_t*, std::uint64_t*, double*, std::string*, std::optional<double>*,
                 std::vector<double>*, std::vector<std::string>*>;

// A configuration key as a flag: takes exactly one value, so that it cannot swallow what follows.
struct KeyFlag {
  std::string name;   // "--train.steps"
  std::string kind;   // of its value in --help
  std::string group;  // of --help
  std::string help;
  bool is_list = false;  // repeated, all values count; else the last one does
  std::function<void(const std::vector<std::string>&)> take;
};

// The flags of one command; refers to its part of a ProgramFlags.
class CommandFlags {
 public:
  CommandFlags() = default;
  explicit CommandFlags(CLI::App* app) : app_(app) {}

  // A name with dashes makes a flag, one without an argument.
  Flag add(const std::string& name, const FlagTarget& target, const std::string& help);
  void add_switch(const std::string& name, bool* target, const std::string& help);
  // A switch that may have a value: without one, `bare` counts.
  void add_switch(const std::string& name, const std::string& bare, std::string* target,
                  const std::string& help);
  // Takes shards, as a list key of the configuration does: its items are separated by commas ("\,"
  // is one inside a name) or repeated.
  void add_list(const std::string& name, std::vector<std::string>* target, const std::string& help);
  void add_key(const KeyFlag& key);

  std::string name() const;                     // "train"
  std::vector<std::string> flag_names() const;  // "--json"; without keys
  bool chosen() const;                          // once parsed: the command line names it
  std::vector<std::string> extras() const;      // once parsed: what it has no place for

 protected:
  CLI::App* app_ = nullptr;
};

// The program's own flags, and its commands.
class ProgramFlags : public CommandFlags {
 public:
  ProgramFlags(const std::string& name, const std::string& description);
  ~ProgramFlags();
  ProgramFlags(const ProgramFlags&) = delete;
  ProgramFlags& operator=(const ProgramFlags&) = delete;

  CommandFlags add_command(const std::string& name, const std::string& description);
  void end_help_with(const std::string& line);  // the program's, not its commands'

  struct Parsed {
    bool help = false;                   // it is asked for
    std::optional<std::string> problem;  // what is missing or wrong; extras are not
  };
  Parsed parse(int argc, const char* const* argv);
  std::string help() const;  // of the command that was chosen, else of the program

 private:
  std::unique_ptr<CLI::App> owned_;
};

std::string cli11_version();  // as compiled

}  // namespace lockstep
