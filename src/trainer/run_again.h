// Whether a batch job whose training has ended should run again. What the run itself wrote says
// more than the launcher's exit code, which may be that of a rank that was only swept away; and the
// batch system counts the attempts, so that nothing needs to be kept on a disk that may be full.
#pragma once

#include <string>

namespace lockstep {

struct JobEnd {
  int exit_code = 0;  // what the launcher returned
  std::string job;    // job_id()
  int restart = 0;    // job_restart(): how often the batch system has started this job again
  int allowed = 3;    // restarts in a row that may end without a new checkpoint
};

struct RunAgain {
  bool again = false;
  std::string why;  // one line
};

// Reads RUN/events.jsonl and RUN/failure.json as far as they are of this job; a run that is not
// there yet has done nothing. Throws UserError(kIo).
RunAgain judge_end(const std::string& run_directory, const JobEnd& end);

}  // namespace lockstep
