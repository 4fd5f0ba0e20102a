// The run directory: config.toml, metrics.jsonl, events.jsonl, train.log, failure.json, lock and
// checkpoints/. Rank 0 writes everything except failure.json, which the first failing rank creates.
// Writing metrics or events never stops a run: a full disk is reported once and writing is retried.
// Events may come from any thread.
#pragma once

#include "core/log.h"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace lockstep {

// One logged training step. Absent or non-finite values are written as null.
struct MetricsRow {
  std::int64_t step = 0;
  std::int64_t updates = 0;
  std::int64_t tokens = 0;  // cumulative
  double loss = 0.0;        // global, of this step
  double lr = 0.0;
  double grad_norm = 0.0;  // before clipping
  double loss_scale = 1.0;
  std::int64_t skipped = 0;  // cumulative
  double step_ms = 0.0;      // means since the last row, as the next two
  std::optional<double> comm_exposed_ms;
  std::optional<double> data_wait_ms;
  double tokens_per_second = 0.0;  // all ranks
  std::optional<double> mfu;       // fraction of the dense peak printed at start
  std::optional<double> memory_peak_bytes;
};

struct ValidationRow {
  std::int64_t step = 0;
  std::int64_t tokens = 0;
  double val_loss = 0.0;
  double val_accuracy = 0.0;
};

// The step line of the terminal and train.log, the same values as the row.
std::string step_line(const MetricsRow& row, std::int64_t total_steps, double eta_seconds);

// What an event tells beside its kind and place; a number that is not finite is written as null.
using EventDetails =
    std::map<std::string,
             std::variant<std::int64_t, double, std::string, std::vector<std::string>>>;

// What failed, for failure.json.
struct FailureRecord {
  int exit_code = 70;
  int rank = 0;  // that failed, as far as it is known; its host and pid follow
  std::string host;
  std::int64_t pid = 0;
  int reported_by = 0;  // the rank that noticed
  std::int64_t step = 0;
  std::string phase;  // "setup", "train", "evaluate", "checkpoint", ...
  std::string message;
  std::string newest_checkpoint;
  std::string next_command;
  // Only read; the writer's own are taken when it is written.
  std::string job;
  int restart = 0;
};
// Creates RUN/failure.json if it is not there yet: false if it is, the first failure wins. Safe
// from any thread and any rank; never throws.
bool record_failure(const std::string& run_directory, const FailureRecord& record) noexcept;
std::optional<FailureRecord> read_failure(const std::string& run_directory);

// Only rank 0 constructs one.
class RunDirectory {
 public:
  // Makes the directory, takes the lock and removes an earlier attempt's failure.json. A lock whose
  // process is gone, or (other host) whose heartbeat is older than two minutes, is taken over and
  // reported through `log`. Throws UserError: kConfig if another live trainer holds it (naming host
  // and pid), kIo if the directory cannot be made or written (naming the path and errno).
  RunDirectory(const std::string& path, Log& log);
  ~RunDirectory();  // releases the lock
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  const std::string& path() const;
  std::string checkpoints() const;  // RUN/checkpoints

  void write_config(const std::string& toml);
  // A resumed run: cuts metrics rows of steps after `step` (atomically), so that a step never
  // appears twice. A last line torn by a crash is dropped.
  void begin(std::int64_t step);
  // True if the metrics hold a validation of this step.
  bool has_validation(std::int64_t step) const;
  void append(const MetricsRow& row);
  void append(const ValidationRow& row);
  // Appends {"event": kind, time, step, job, restart, host, ...details}.
  void event(const std::string& kind, std::int64_t step, const EventDetails& details = {});
  // Rows and events so far are on disk when this returns; throws UserError(kIo).
  void sync();
  // Throws UserError(kConfig) if another trainer has taken the directory over: check_lock() by the
  // last heartbeat, at no cost; require_lock() by looking now, before something is published.
  void check_lock();
  void require_lock();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// ISO 8601 in UTC, with milliseconds: 2025-01-31T12:00:00.123Z.
std::string utc_now();
// SLURM_JOB_ID (with array task), else "".
std::string job_id();
// SLURM_RESTART_COUNT: how often the batch system has started this job again; 0 outside one.
int job_restart();

// What `lockstep inspect RUN` reports, from the files alone.
struct RunState {
  std::string
      state;  // "running", "finished", "stopped", "failed", "dead" (no process, no record), "empty"
  std::string cause;
  std::int64_t step = 0;
  std::string newest_checkpoint;  // newest with a valid manifest, or ""
  std::string next_command;
};
RunState inspect_run(const std::string& run_directory);

}  // namespace lockstep
