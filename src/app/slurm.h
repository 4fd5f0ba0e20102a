// What Slurm says about this job and this site, asked through its own commands. Outside a job, or
// where the commands are missing, the answers are empty.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace lockstep {

// Seconds left of this job, or -1.
double slurm_seconds_left();

// JobState and Reason of `scontrol show job`.
struct SlurmJob {
  std::string state;
  std::string reason;
};
SlurmJob parse_slurm_job(const std::string& text);
// Of the job that this process belongs to; nothing outside one, or when Slurm does not answer.
std::optional<SlurmJob> this_slurm_job();
// True if somebody ended the job (scancel): it must not come back. A job that runs, or that Slurm
// ends for its time limit or for another job, may.
bool was_cancelled(const SlurmJob& job);

// How the site treats a training job.
struct SlurmSite {
  std::string version;
  bool pmix = false;               // srun can start MPI programs
  bool preempts = false;           // some jobs make room for others
  bool signals_preempted = false;  // their --signal reaches them then, not only TERM
  bool requeues = true;            // a job may be started again
  std::string kill_wait;           // between TERM and KILL: "30 sec"
};
// From the outputs of `scontrol show config` and `srun --mpi=list`.
SlurmSite parse_slurm_site(const std::string& config, const std::string& mpi_list);
// Nothing where there is no Slurm.
std::optional<SlurmSite> this_slurm_site();
// One line for each thing that would cost work or steps; empty for a site that has all.
std::vector<std::string> slurm_advice(const SlurmSite& site);

}  // namespace lockstep
