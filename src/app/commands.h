// The subcommands, one source file each (src/app/NAME_command.cpp): every function adds its parser
// to the program's and says what to run once the command line has been parsed.
#pragma once

#include "app/command.h"

#include <vector>

namespace lockstep {

Command add_prepare_command(CLI::App& app);
Command add_train_command(CLI::App& app);
Command add_eval_command(CLI::App& app);
Command add_generate_command(CLI::App& app);
Command add_export_command(CLI::App& app);
Command add_inspect_command(CLI::App& app);
Command add_plan_command(CLI::App& app);
Command add_doctor_command(CLI::App& app);
Command add_bench_command(CLI::App& app);
Command add_requeue_command(CLI::App& app);

// All of them, in the order of --help.
inline std::vector<Command> add_commands(CLI::App& app) {
  return {add_prepare_command(app),  add_train_command(app),  add_eval_command(app),
          add_generate_command(app), add_export_command(app), add_inspect_command(app),
          add_plan_command(app),     add_doctor_command(app), add_bench_command(app),
          add_requeue_command(app)};
}

}  // namespace lockstep
