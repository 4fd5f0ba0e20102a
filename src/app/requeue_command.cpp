// `lockstep requeue`: asked by a job script after training has ended, with the same arguments that
// `train` got, so that both mean the same run. Exits 0 when the job should run again, 1 when it
// should end.
#include "app/commands.h"

#include "app/config.h"
#include "app/run_setup.h"
#include "app/slurm.h"
#include "core/error.h"
#include "trainer/run_again.h"
#include "trainer/run_directory.h"

#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <string>

namespace lockstep {
namespace {

struct RequeueArguments {
  std::string config;
  Options options;
  ConfigRegistry registry{options};
  int exit_code = 0;
  int restarts = 3;
};

RunAgain judge(const RequeueArguments& arguments) {
  const std::optional<SlurmJob> job = this_slurm_job();
  if (job && was_cancelled(*job)) {
    return {.again = false, .why = "the job was cancelled"};
  }
  return judge_end(arguments.options.run.dir, {.exit_code = arguments.exit_code,
                                               .job = job_id(),
                                               .restart = job_restart(),
                                               .allowed = arguments.restarts});
}

int run_requeue(RequeueArguments& arguments) {
  arguments.registry.load_file(arguments.config);
  arguments.registry.apply_command_line();
  name_run(arguments.options, arguments.config);
  const RunAgain answer = judge(arguments);
  fmt::print("{}: {}; run {}\n", answer.again ? "run again" : "end", answer.why,
             arguments.options.run.dir);
  return answer.again ? 0 : 1;
}

}  // namespace

Command add_requeue_command(ProgramFlags& program) {
  auto arguments = std::make_shared<RequeueArguments>();
  CommandFlags flags =
      program.add_command("requeue", "For job scripts: should a job that ended so run again?");
  flags.add("CONFIG", &arguments->config, "TOML file, as given to train").required();
  arguments->registry.add_options(flags);
  flags.add("--exit-code", &arguments->exit_code, "what training ended with")
      .required()
      .called("INT")
      .within(1, 255);
  flags
      .add("--restarts", &arguments->restarts,
           "give up after so many in a row without a new checkpoint")
      .called("INT")
      .positive()
      .shows_default();
  return {.flags = flags,
          .run = [arguments](MpiSession&) { return run_requeue(*arguments); },
          .registry = &arguments->registry};
}

}  // namespace lockstep
