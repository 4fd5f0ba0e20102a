// The answers to what is unknown. What a flag takes, and how it is read, is in flags.cpp.
#include "app/command_line.h"

#include "app/config.h"
#include "app/launcher.h"
#include "app/version.h"
#include "core/error.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <string_view>

namespace lockstep {
namespace {

[[noreturn]] void reject_flag(const CommandFlags& flags, const ConfigRegistry* registry,
                              const std::string& argument) {
  const std::string flag = argument.substr(0, argument.find('='));
  const std::string name = flag.substr(std::min(flag.find_first_not_of('-'), flag.size()));
  const bool is_key = flag.rfind("--", 0) == 0 && name.find('.') != std::string::npos;
  if (is_key && registry != nullptr) {
    fail(ExitCode::kConfig, "--{}: unknown key{}", name, registry->suggestion(name));
  }
  std::string hint;
  const std::string near = nearest(flag, flags.flag_names());
  if (!near.empty()) {
    hint = fmt::format("; did you mean {}?", near);
  } else if (registry != nullptr) {
    for (const ConfigKey& key : registry->keys()) {
      if (key.name == name) hint = fmt::format("; did you mean --{}?", key.full());
    }
  }
  if (is_key) hint = "; this command takes no configuration keys";
  if (hint.empty()) hint = fmt::format("; see lockstep {} --help", flags.name());
  fail(ExitCode::kUsage, "unknown flag {} of lockstep {}{}", flag, flags.name(), hint);
}

[[noreturn]] void reject_argument(const CommandFlags& flags, const std::string& argument) {
  fail(ExitCode::kUsage, "unexpected argument \"{}\"; see lockstep {} --help", argument,
       flags.name());
}

// What a command has no place for behind the user's "--" is left to the program itself.
bool is_behind_dashes(int argc, const char* const* argv, const std::string& argument) {
  const char* const* end = argv + argc;
  const char* const* dashes =
      std::find_if(argv, end, [](std::string_view word) { return word == "--"; });
  return std::find(dashes, end, argument) != end;
}

// A "--" of the user is among them; what follows it is no flag.
void reject_extras(const CommandFlags& flags, const ConfigRegistry* registry) {
  std::vector<std::string> extras = flags.extras();
  const auto mark = std::find(extras.begin(), extras.end(), "--");
  for (auto argument = extras.begin(); argument != mark; ++argument) {
    if (argument->size() > 1 && argument->front() == '-') reject_flag(flags, registry, *argument);
  }
  if (mark != extras.end()) extras.erase(mark);
  if (!extras.empty()) reject_argument(flags, extras.front());
}

[[noreturn]] void reject_command(const ProgramFlags& program,
                                 const std::vector<Command>& commands) {
  std::vector<std::string> names;
  std::string list;
  for (const Command& command : commands) {
    names.push_back(command.flags.name());
    list += (list.empty() ? "" : ", ") + names.back();
  }
  const std::vector<std::string> extras = program.extras();
  if (extras.empty()) fail(ExitCode::kUsage, "no command given; the commands are {}", list);
  const std::string& word = extras.front();
  const bool is_flag = word.size() > 1 && word[0] == '-';
  const std::string near = is_flag ? nearest(word.substr(0, word.find('=')), program.flag_names())
                                   : nearest(word, names);
  fail(ExitCode::kUsage, "unknown {} {}{}", is_flag ? "flag" : "command", word,
       near.empty() ? "; the commands are " + list : fmt::format("; did you mean {}?", near));
}

const Command* chosen_command(const std::vector<Command>& commands) {
  for (const Command& command : commands) {
    if (command.flags.chosen()) return &command;
  }
  return nullptr;
}

void print_versions() {
  for (const std::string& line : version_lines()) fmt::print("{}\n", line);
}

}  // namespace

const Command* parse_command_line(ProgramFlags& program, const std::vector<Command>& commands,
                                  int argc, const char* const* argv) {
  const bool prints = launcher_rank(process_environment()) == 0;
  bool version = false;
  program.add_switch("--version", &version, "print the versions of lockstep and its libraries");
  program.end_help_with("lockstep COMMAND --help lists a command's flags.");
  const ProgramFlags::Parsed parsed = program.parse(argc, argv);
  const Command* command = chosen_command(commands);
  if (parsed.help) {
    if (command == nullptr && !program.extras().empty()) reject_command(program, commands);
    if (prints) std::fputs(program.help().c_str(), stdout);
    return nullptr;
  }
  if (parsed.problem) {
    if (command != nullptr) reject_extras(command->flags, command->registry);
    fail(ExitCode::kUsage, "{}; see lockstep {}--help", *parsed.problem,
         command == nullptr ? "" : command->flags.name() + " ");
  }
  if (version) {
    if (prints) print_versions();
    return nullptr;
  }
  const std::vector<std::string> extras = program.extras();
  if (command != nullptr && !extras.empty() && is_behind_dashes(argc, argv, extras.front())) {
    reject_argument(command->flags, extras.front());
  }
  if (command == nullptr || !extras.empty()) reject_command(program, commands);
  reject_extras(command->flags, command->registry);
  return command;
}

}  // namespace lockstep
