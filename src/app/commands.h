// The subcommands, one source file each (src/app/NAME_command.cpp): every function adds its flags
// to the program's and says what to run once the command line has been parsed.
#pragma once

#include "app/command.h"

#include <vector>

namespace lockstep {

Command add_prepare_command(ProgramFlags& program);
Command add_train_command(ProgramFlags& program);
Command add_eval_command(ProgramFlags& program);
Command add_generate_command(ProgramFlags& program);
Command add_export_command(ProgramFlags& program);
Command add_inspect_command(ProgramFlags& program);
Command add_plan_command(ProgramFlags& program);
Command add_doctor_command(ProgramFlags& program);
Command add_bench_command(ProgramFlags& program);
Command add_requeue_command(ProgramFlags& program);

// All of them, in the order of --help.
inline std::vector<Command> add_commands(ProgramFlags& program) {
  return {add_prepare_command(program),  add_train_command(program),  add_eval_command(program),
          add_generate_command(program), add_export_command(program), add_inspect_command(program),
          add_plan_command(program),     add_doctor_command(program), add_bench_command(program),
          add_requeue_command(program)};
}

}  // namespace lockstep
