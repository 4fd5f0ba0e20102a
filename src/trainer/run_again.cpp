// The rules of running again, over what this job's attempts wrote.
#include "trainer/run_again.h"

#include "core/error.h"
#include "trainer/run_directory.h"
#include "trainer/run_files.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <sstream>

namespace lockstep {
namespace {

using Json = nlohmann::json;

// What one job has done to a run, over all its attempts.
struct JobHistory {
  std::int64_t newest_step = -1;  // of the checkpoints it saved
  int newest_restart = 0;         // the attempt that reached that step first
  std::string end;                // of this attempt: "finished", "stopped" or ""
};

template <typename T>
T field(const Json& row, const char* name, T otherwise) {
  const auto found = row.find(name);
  if (found == row.end()) return otherwise;
  try {
    return found->get<T>();
  } catch (const Json::exception&) {
    return otherwise;
  }
}

JobHistory read_history(const std::string& run_directory, const JobEnd& job) {
  JobHistory history;
  std::istringstream lines(read_text_file(run_directory + "/events.jsonl").value_or(""));
  for (std::string line; std::getline(lines, line);) {
    const Json event = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!event.is_object() || field<std::string>(event, "job", "") != job.job) continue;
    const int restart = field(event, "restart", 0);
    const auto kind = field<std::string>(event, "event", "");
    const std::int64_t step = field<std::int64_t>(event, "step", 0);
    if (kind == "save" && step > history.newest_step) {
      history.newest_step = step;
      history.newest_restart = restart;
    }
    if (restart == job.restart) {
      history.end = kind == "stop" ? field<std::string>(event, "state", "") : "";
    }
  }
  return history;
}

int code_of(const JobHistory& history, const std::optional<FailureRecord>& failure,
            const JobEnd& end) {
  if (history.end == "finished") return static_cast<int>(ExitCode::kDone);
  if (history.end == "stopped") return static_cast<int>(ExitCode::kStopped);
  return failure ? failure->exit_code : end.exit_code;
}

bool needs_a_person(int code) {
  constexpr ExitCode kFinal[] = {ExitCode::kUsage,    ExitCode::kData,   ExitCode::kInternal,
                                 ExitCode::kDiverged, ExitCode::kConfig, ExitCode::kInterrupted};
  return std::any_of(std::begin(kFinal), std::end(kFinal),
                     [code](ExitCode final) { return code == static_cast<int>(final); });
}

}  // namespace

RunAgain judge_end(const std::string& run_directory, const JobEnd& end) {
  const JobHistory history = read_history(run_directory, end);
  std::optional<FailureRecord> failure = read_failure(run_directory);
  if (failure && (failure->job != end.job || failure->restart != end.restart)) failure.reset();
  const int code = code_of(history, failure, end);
  const std::string cause = failure ? ": " + failure->message : "";
  const std::string saved = history.newest_step < 0
                                ? "this job has saved no checkpoint"
                                : fmt::format("newest checkpoint: step {}", history.newest_step);
  if (code == static_cast<int>(ExitCode::kDone)) {
    return {.again = false, .why = "the run is finished"};
  }
  if (needs_a_person(code)) {
    return {.again = false, .why = fmt::format("exit code {} needs a person{}", code, cause)};
  }
  const int wasted = end.restart - history.newest_restart;
  if (wasted >= end.allowed) {
    return {.again = false,
            .why = fmt::format("exit code {} after {} restarts without a new checkpoint{} ({})",
                               code, wasted, cause, saved)};
  }
  if (code == static_cast<int>(ExitCode::kStopped)) {
    return {.again = true, .why = fmt::format("stopped, all is saved ({})", saved)};
  }
  return {.again = true,
          .why = fmt::format("exit code {}{} ({}; restart {} of {} without a new one)", code, cause,
                             saved, wasted + 1, end.allowed)};
}

}  // namespace lockstep
