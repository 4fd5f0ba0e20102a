// The command line, through CLI11 with its own handling of unknown arguments switched off.
#include "app/command_line.h"

#include "app/config.h"
#include "app/launcher.h"
#include "app/version.h"
#include "core/error.h"
#include "core/shell_quote.h"

#include <fmt/core.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <string>
#include <string_view>

namespace lockstep {
namespace {

// CLI11 takes arguments in reverse order, and reads "--name=" as a flag that still waits for its
// value; the empty value is passed as an argument of its own.
std::vector<std::string> reversed_arguments(int argc, const char* const* argv) {
  std::vector<std::string> arguments;
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    const std::size_t equals = argument.find('=');
    if (argument.rfind("--", 0) == 0 && equals != std::string::npos &&
        equals + 1 == argument.size()) {
      argument.pop_back();
      arguments.push_back(argument);
      arguments.emplace_back();
    } else {
      arguments.push_back(std::move(argument));
    }
  }
  std::reverse(arguments.begin(), arguments.end());
  return arguments;
}

std::vector<std::string> flags_of(const CLI::App& parser) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : parser.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      if (name.find('.') == std::string::npos) flags.push_back("--" + name);
    }
  }
  return flags;
}

[[noreturn]] void reject_flag(const CLI::App& parser, const ConfigRegistry* registry,
                              const std::string& argument) {
  const std::string flag = argument.substr(0, argument.find('='));
  const std::string name = flag.substr(std::min(flag.find_first_not_of('-'), flag.size()));
  const bool is_key = flag.rfind("--", 0) == 0 && name.find('.') != std::string::npos;
  if (is_key && registry != nullptr) {
    fail(ExitCode::kConfig, "--{}: unknown key{}", name, registry->suggestion(name));
  }
  std::string hint;
  const std::string near = nearest(flag, flags_of(parser));
  if (!near.empty()) {
    hint = fmt::format("; did you mean {}?", near);
  } else if (registry != nullptr) {
    for (const ConfigKey& key : registry->keys()) {
      if (key.name == name) hint = fmt::format("; did you mean --{}?", key.full());
    }
  }
  if (is_key) hint = "; this command takes no configuration keys";
  if (hint.empty()) hint = fmt::format("; see lockstep {} --help", parser.get_name());
  fail(ExitCode::kUsage, "unknown flag {} of lockstep {}{}", flag, parser.get_name(), hint);
}

[[noreturn]] void reject_argument(const CLI::App& parser, const std::string& argument) {
  fail(ExitCode::kUsage, "unexpected argument \"{}\"; see lockstep {} --help", argument,
       parser.get_name());
}

// What a command has no place for behind the user's "--", CLI11 leaves to the program itself.
bool is_behind_dashes(int argc, const char* const* argv, const std::string& argument) {
  const char* const* end = argv + argc;
  const char* const* dashes =
      std::find_if(argv, end, [](std::string_view word) { return word == "--"; });
  return std::find(dashes, end, argument) != end;
}

// A "--" of the user is among them; what follows it is no flag.
void reject_extras(const CLI::App& parser, const ConfigRegistry* registry) {
  std::vector<std::string> extras = parser.remaining();
  const auto mark = std::find(extras.begin(), extras.end(), "--");
  for (auto argument = extras.begin(); argument != mark; ++argument) {
    if (argument->size() > 1 && argument->front() == '-') reject_flag(parser, registry, *argument);
  }
  if (mark != extras.end()) extras.erase(mark);
  if (!extras.empty()) reject_argument(parser, extras.front());
}

[[noreturn]] void reject_command(const CLI::App& app, const std::vector<Command>& commands) {
  std::vector<std::string> names;
  std::string list;
  for (const Command& command : commands) {
    names.push_back(command.parser->get_name());
    list += (list.empty() ? "" : ", ") + names.back();
  }
  const std::vector<std::string> extras = app.remaining();
  if (extras.empty()) fail(ExitCode::kUsage, "no command given; the commands are {}", list);
  const std::string& word = extras.front();
  const bool is_flag = word.size() > 1 && word[0] == '-';
  const std::string near =
      is_flag ? nearest(word.substr(0, word.find('=')), flags_of(app)) : nearest(word, names);
  fail(ExitCode::kUsage, "unknown {} {}{}", is_flag ? "flag" : "command", word,
       near.empty() ? "; the commands are " + list : fmt::format("; did you mean {}?", near));
}

const Command* chosen_command(const std::vector<Command>& commands) {
  for (const Command& command : commands) {
    if (command.parser->parsed()) return &command;
  }
  return nullptr;
}

void print_versions() {
  for (const std::string& line : version_lines()) fmt::print("{}\n", line);
}

}  // namespace

const Command* parse_command_line(CLI::App& app, const std::vector<Command>& commands, int argc,
                                  const char* const* argv) {
  const bool prints = launcher_rank(process_environment()) == 0;
  bool version = false;
  app.add_flag("--version", version, "print the versions of lockstep and its libraries");
  app.footer("lockstep COMMAND --help lists a command's flags.");
  // Names such as --precision.initial_loss_scale need a wider first column.
  constexpr std::size_t kNameColumn = 42;
  for (const Command& command : commands) {
    command.parser->allow_extras();
    command.parser->get_formatter()->column_width(kNameColumn);
  }
  app.allow_extras();
  try {
    app.parse(reversed_arguments(argc, argv));
  } catch (const CLI::Success& help) {
    if (chosen_command(commands) == nullptr && !app.remaining().empty()) {
      reject_command(app, commands);
    }
    return prints ? (app.exit(help), nullptr) : nullptr;
  } catch (const CLI::ParseError& error) {
    const Command* command = chosen_command(commands);
    if (command != nullptr) reject_extras(*command->parser, command->registry);
    fail(ExitCode::kUsage, "{}; see lockstep {}--help", error.what(),
         command == nullptr ? "" : command->parser->get_name() + " ");
  }
  if (version) {
    if (prints) print_versions();
    return nullptr;
  }
  const Command* command = chosen_command(commands);
  if (command != nullptr && !app.remaining().empty() &&
      is_behind_dashes(argc, argv, app.remaining().front())) {
    reject_argument(*command->parser, app.remaining().front());
  }
  if (command == nullptr || !app.remaining().empty()) reject_command(app, commands);
  reject_extras(*command->parser, command->registry);
  return command;
}

void add_list_option(CLI::App& parser, const std::string& flag, std::vector<std::string>& target,
                     const std::string& help) {
  const auto take = [&target](const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
      for (std::string& item : split_list(text)) target.push_back(std::move(item));
    }
  };
  parser.add_option_function<std::vector<std::string>>(flag, take, help)->type_name("LIST");
}

}  // namespace lockstep
