// Slurm's commands and the few words of their outputs that matter here.
#include "app/slurm.h"

#include "trainer/run_directory.h"

#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <sstream>

namespace lockstep {
namespace {

// Standard output of a command that may hang; "" when it fails. No argument comes from outside but
// a job's number.
std::string output_of(const std::string& command) {
  std::FILE* pipe = popen(("timeout 20 " + command + " 2>/dev/null").c_str(), "r");
  if (pipe == nullptr) return "";
  std::string text;
  std::array<char, 4096> buffer{};
  for (std::size_t got = 0; (got = std::fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
    text.append(buffer.data(), got);
  }
  return pclose(pipe) == 0 ? text : "";
}

// The number as scontrol and squeue take it, "12" or "12_3"; "" outside a job.
std::string job_number() {
  const std::string job = job_id();
  return job.find_first_not_of("0123456789_") == std::string::npos ? job : "";
}

// "d-hh:mm:ss", "hh:mm:ss" or "mm:ss" as squeue prints it; -1 if it is something else.
double duration_seconds(const std::string& text) {
  double days = 0.0;
  std::string rest = text;
  if (const std::size_t dash = rest.find('-'); dash != std::string::npos) {
    days = std::atof(rest.substr(0, dash).c_str());
    rest = rest.substr(dash + 1);
  }
  double seconds = 0.0;
  std::stringstream fields(rest);
  std::string field;
  while (std::getline(fields, field, ':')) {
    if (field.empty() || field.find_first_not_of("0123456789") != std::string::npos) return -1.0;
    seconds = seconds * 60.0 + std::atof(field.c_str());
  }
  return rest.empty() ? -1.0 : days * 86400.0 + seconds;
}

// The word after " NAME=" in the one-line form of `scontrol show job`.
std::string job_field(const std::string& text, const std::string& name) {
  const std::size_t at = text.find(" " + name + "=");
  if (at == std::string::npos) return "";
  const std::size_t begin = at + name.size() + 2;
  return text.substr(begin, text.find_first_of(" \n", begin) - begin);
}

// The rest of the line "NAME   = ..." of `scontrol show config`.
std::string config_value(const std::string& config, const std::string& name) {
  std::istringstream lines(config);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t equals = line.find("= ");
    if (equals == std::string::npos || line.rfind(name + " ", 0) != 0) continue;
    return line.substr(equals + 2);
  }
  return "";
}

}  // namespace

double slurm_seconds_left() {
  if (const char* end = std::getenv("SLURM_JOB_END_TIME")) {
    return std::difftime(static_cast<std::time_t>(std::atoll(end)), std::time(nullptr));
  }
  const std::string job = job_number();
  if (job.empty()) return -1.0;
  std::string text = output_of(fmt::format("squeue --noheader --jobs={} --format=%L", job));
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  return duration_seconds(text);
}

SlurmJob parse_slurm_job(const std::string& text) {
  return {.state = job_field(text, "JobState"), .reason = job_field(text, "Reason")};
}

std::optional<SlurmJob> this_slurm_job() {
  const std::string job = job_number();
  if (job.empty()) return std::nullopt;
  SlurmJob answer = parse_slurm_job(output_of("scontrol show job --oneliner " + job));
  if (answer.state.empty()) return std::nullopt;
  return answer;
}

bool was_cancelled(const SlurmJob& job) {
  // While its processes end, a job's state is COMPLETING, and the reason tells who ended it: a time
  // limit has one, scancel has none.
  return job.state == "CANCELLED" || (job.state == "COMPLETING" && job.reason == "None");
}

SlurmSite parse_slurm_site(const std::string& config, const std::string& mpi_list) {
  SlurmSite site;
  site.version = config_value(config, "SLURM_VERSION");
  site.pmix = mpi_list.find("pmix") != std::string::npos;
  const std::string mode = config_value(config, "PreemptMode");
  site.preempts = config_value(config, "PreemptType") != "preempt/none" && mode != "OFF";
  site.signals_preempted =
      config_value(config, "SlurmctldParameters").find("preempt_send_user_signal") !=
      std::string::npos;
  site.requeues = config_value(config, "JobRequeue") != "0";
  site.kill_wait = config_value(config, "KillWait");
  return site;
}

std::optional<SlurmSite> this_slurm_site() {
  const std::string config = output_of("scontrol show config");
  if (config.empty()) return std::nullopt;
  return parse_slurm_site(config, output_of("srun --mpi=list 2>&1"));
}

std::vector<std::string> slurm_advice(const SlurmSite& site) {
  std::vector<std::string> advice;
  if (!site.pmix) {
    advice.push_back(
        "srun offers no pmix: ranks need mpirun, which loses the steps since the last checkpoint "
        "on scancel, and on preemption unless preempt_send_user_signal is set");
  }
  if (site.preempts && !site.signals_preempted) {
    advice.push_back(
        "a preempted job gets TERM, not the signal it asked for: ranks under srun save, under "
        "mpirun they do not; SlurmctldParameters=preempt_send_user_signal would serve both");
  }
  if (!site.requeues) {
    advice.push_back("JobRequeue=0: a job comes back only when it was sent with --requeue");
  }
  return advice;
}

}  // namespace lockstep
