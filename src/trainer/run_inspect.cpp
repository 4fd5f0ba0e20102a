// What a run directory tells from its files alone: the state of the run, why, and what to do next.
// The lock answers first (a living process), then the failure record, then the last event.
#include "core/error.h"
#include "core/shell_quote.h"
#include "io/checkpoint.h"
#include "trainer/next_command.h"
#include "trainer/run_directory.h"
#include "trainer/run_files.h"
#include "trainer/run_lock.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <sstream>

namespace lockstep {
namespace {

using Json = nlohmann::json;

Json last_row(const std::string& path) {
  return Json::parse(last_line(path), nullptr, /*allow_exceptions=*/false);
}

template <typename T>
T field(const Json& row, const char* name, T otherwise) {
  if (!row.is_object() || !row.contains(name)) return otherwise;
  try {
    return row[name].get<T>();
  } catch (const Json::exception&) {
    return otherwise;
  }
}

// What started the ranks of the newest start or resume: "mpirun -n 4 ", or "".
std::string recorded_launcher(const std::string& events) {
  std::string launcher;
  std::istringstream lines(read_text_file(events).value_or(""));
  for (std::string line; std::getline(lines, line);) {
    const Json event = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    launcher = field<std::string>(event, "launcher", launcher);
  }
  return launcher;
}

// The newest checkpoint whose manifest and file sizes are in order; damaged ones are passed over.
CheckpointEntry newest_valid(const std::string& checkpoints) {
  if (!std::filesystem::is_directory(checkpoints)) return {};
  for (const CheckpointEntry& entry : list_checkpoints(checkpoints)) {
    try {
      verify_checkpoint(entry.path, VerifyLevel::kQuick);
      return entry;
    } catch (const UserError&) {
      continue;
    }
  }
  return {};
}

std::string failure_cause(const FailureRecord& record) {
  const std::string where = record.host.empty() ? "" : " on " + record.host;
  const std::string phase = record.phase.empty() ? "" : ", " + record.phase;
  return fmt::format("exit {}, rank {}{}, step {}{}: {}", record.exit_code, record.rank, where,
                     record.step, phase, record.message);
}

std::string stop_cause(const Json& event) {
  const auto signal = field<std::string>(event, "signal", "");
  return signal.starts_with("SIG") ? "stopped by " + signal : "stopped at its time limit";
}

// The run's own last word.
void read_last_event(RunState& state, const Json& event) {
  const auto kind = field<std::string>(event, "event", "");
  if (kind == "stop" && field<std::string>(event, "state", "") == "finished") {
    state.state = "finished";
    state.cause = "all steps are done";
  } else if (kind == "stop") {
    state.state = "stopped";
    state.cause = stop_cause(event);
  } else if (kind == "failure") {
    state.state = "failed";
    state.cause = field<std::string>(event, "message", "see train.log");
  } else {
    state.state = "dead";
    state.cause = fmt::format("no process and no record of an end; last sign of life {} at step {}",
                              field<std::string>(event, "time", "unknown"), state.step);
  }
}

}  // namespace

RunState inspect_run(const std::string& run_directory) {
  std::string run = run_directory;
  while (run.size() > 1 && run.back() == '/') run.pop_back();
  if (!std::filesystem::is_directory(run)) {
    fail(ExitCode::kData, "{}: no such run directory", run);
  }
  const Json event = last_row(run + "/events.jsonl");
  const Json row = last_row(run + "/metrics.jsonl");
  const CheckpointEntry checkpoint = newest_valid(run + "/checkpoints");
  const auto holder = read_lock(run + "/lock");
  const auto failure = read_failure(run);

  RunState state;
  state.newest_checkpoint = checkpoint.path;
  state.step = std::max({checkpoint.step, field<std::int64_t>(event, "step", 0),
                         field<std::int64_t>(row, "step", 0)});
  state.next_command = resume_command(run, recorded_launcher(run + "/events.jsonl"));
  if (holder && is_alive(*holder, file_age(run + "/lock"))) {
    state.state = "running";
    state.cause = fmt::format("{}, last heartbeat {}", describe(*holder), holder->heartbeat);
    state.next_command = "tail -f " + shell_path(run + "/train.log");
  } else if (failure) {
    state.state = "failed";
    state.cause = failure_cause(*failure);
    state.step = std::max(state.step, failure->step);
    if (!failure->next_command.empty()) state.next_command = failure->next_command;
  } else if (event.is_object()) {
    read_last_event(state, event);
    if (holder && state.state == "dead") state.cause += "; it was " + describe(*holder);
    if (state.state == "finished") state.next_command = "lockstep eval " + shell_path(run);
  } else if (holder || row.is_object() || !checkpoint.path.empty()) {
    state.state = "dead";
    state.cause = "no process and no events; what is here was left by a run that did not end";
  } else {
    state.state = "empty";
    state.cause = "nothing has been trained here";
    state.next_command =
        fmt::format("lockstep train CONFIG.toml {}", shell_word("--run.dir=" + run));
  }
  return state;
}

}  // namespace lockstep
