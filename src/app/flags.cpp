// Flags through CLI11, with its own handling of unknown arguments switched off.
#include "app/flags.h"

#include "core/shell_quote.h"

#include <CLI/CLI.hpp>

#include <algorithm>

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

}  // namespace

Flag& Flag::required() {
  option_->required();
  return *this;
}

Flag& Flag::one_of(const std::vector<std::string>& words) {
  option_->check(CLI::IsMember(words));
  return *this;
}

Flag& Flag::at_least_zero() {
  option_->check(CLI::NonNegativeNumber);
  return *this;
}

Flag& Flag::positive() {
  option_->check(CLI::PositiveNumber);
  return *this;
}

Flag& Flag::within(int low, int high) {
  option_->check(CLI::Range(low, high));
  return *this;
}

Flag& Flag::within(double low, double high) {
  option_->check(CLI::Range(low, high));
  return *this;
}

Flag& Flag::comma_separated() {
  option_->delimiter(',');
  return *this;
}

Flag& Flag::called(const std::string& kind) {
  option_->type_name(kind);
  return *this;
}

Flag& Flag::shows_default() {
  option_->capture_default_str();
  return *this;
}

Flag CommandFlags::add(const std::string& name, const FlagTarget& target, const std::string& help) {
  return Flag(std::visit([&](auto* at) { return app_->add_option(name, *at, help); }, target));
}

void CommandFlags::add_switch(const std::string& name, bool* target, const std::string& help) {
  app_->add_flag(name, *target, help);
}

void CommandFlags::add_switch(const std::string& name, const std::string& bare, std::string* target,
                              const std::string& help) {
  app_->add_flag(name + "{" + bare + "}", *target, help);
}

void CommandFlags::add_list(const std::string& name, std::vector<std::string>* target,
                            const std::string& help) {
  const auto take = [target](const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
      for (std::string& item : split_list(text)) target->push_back(std::move(item));
    }
  };
  app_->add_option_function<std::vector<std::string>>(name, take, help)->type_name("LIST");
}

void CommandFlags::add_key(const KeyFlag& key) {
  app_->add_option_function<std::vector<std::string>>(key.name, key.take, key.help)
      ->type_name(key.kind)
      ->type_size(1)
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(key.is_list ? CLI::MultiOptionPolicy::TakeAll
                                        : CLI::MultiOptionPolicy::TakeLast)
      ->group(key.group);
}

std::string CommandFlags::name() const { return app_->get_name(); }

std::vector<std::string> CommandFlags::flag_names() const {
  std::vector<std::string> names;
  for (const CLI::Option* option : app_->get_options()) {
    for (const std::string& name : option->get_lnames()) {
      if (name.find('.') == std::string::npos) names.push_back("--" + name);
    }
  }
  return names;
}

bool CommandFlags::chosen() const { return app_->parsed(); }

std::vector<std::string> CommandFlags::extras() const { return app_->remaining(); }

ProgramFlags::ProgramFlags(const std::string& name, const std::string& description)
    : owned_(std::make_unique<CLI::App>(description, name)) {
  app_ = owned_.get();
  // Commands that are added later do the same.
  app_->allow_extras();
  // Names such as --precision.initial_loss_scale need a wider first column.
  constexpr std::size_t kNameColumn = 42;
  app_->get_formatter()->column_width(kNameColumn);
}

ProgramFlags::~ProgramFlags() = default;

CommandFlags ProgramFlags::add_command(const std::string& name, const std::string& description) {
  return CommandFlags(app_->add_subcommand(name, description));
}

void ProgramFlags::end_help_with(const std::string& line) { app_->footer(line); }

ProgramFlags::Parsed ProgramFlags::parse(int argc, const char* const* argv) {
  try {
    app_->parse(reversed_arguments(argc, argv));
  } catch (const CLI::Success&) {
    return {.help = true};
  } catch (const CLI::ParseError& error) {
    return {.problem = error.what()};
  }
  return {};
}

std::string ProgramFlags::help() const { return app_->help(); }

std::string cli11_version() { return CLI11_VERSION; }

}  // namespace lockstep
