// RUN/: who may write it (the lock), what is in it (configuration, metrics, events, log) and how a
// resumed run continues the same files. Rows are JSON objects, one per line.
#include "trainer/run_directory.h"

#include "core/error.h"
#include "core/process.h"
#include "files/durable.h"
#include "trainer/run_files.h"
#include "trainer/run_lock.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <filesystem>

namespace lockstep {
namespace {

using Json = nlohmann::ordered_json;

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }
Json number(const std::optional<double>& value) { return value ? number(*value) : Json(nullptr); }

// Strings from outside (paths, host names) need not be UTF-8; a record is written nevertheless.
std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string row_text(const MetricsRow& row) {
  Json json;
  json["step"] = row.step;
  json["updates"] = row.updates;
  json["tokens"] = row.tokens;
  json["loss"] = number(row.loss);
  json["lr"] = number(row.lr);
  json["grad_norm"] = number(row.grad_norm);
  json["loss_scale"] = number(row.loss_scale);
  json["skipped"] = row.skipped;
  json["step_ms"] = number(row.step_ms);
  json["comm_exposed_ms"] = number(row.comm_exposed_ms);
  json["data_wait_ms"] = number(row.data_wait_ms);
  json["tokens_per_second"] = number(row.tokens_per_second);
  json["mfu"] = number(row.mfu);
  json["memory_peak_bytes"] = number(row.memory_peak_bytes);
  json["time"] = utc_now();
  return dump(json);
}

std::string row_text(const ValidationRow& row) {
  Json json;
  json["step"] = row.step;
  json["tokens"] = row.tokens;
  json["val_loss"] = number(row.val_loss);
  json["val_accuracy"] = number(row.val_accuracy);
  json["time"] = utc_now();
  return dump(json);
}

std::string event_text(const std::string& kind, std::int64_t step, const std::string& host,
                       const EventDetails& details) {
  Json json;
  json["event"] = kind;
  json["time"] = utc_now();
  json["step"] = step;
  json["job"] = job_id();
  json["restart"] = job_restart();
  json["host"] = host;
  for (const auto& [name, value] : details) {
    std::visit([&json, &name = name](const auto& known) { json[name] = known; }, value);
  }
  return dump(json);
}

// A row survives a resume from `step` if it tells of that step or an earlier one. What is not a row
// (blocks of zeros after a power failure) does not.
bool row_stays(const std::string& line, std::int64_t step) {
  const auto row = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!row.is_object()) return false;
  const auto found = row.find("step");
  return found != row.end() && found->is_number_integer() && found->get<std::int64_t>() <= step;
}

// Before anything in it: every later failure to write is then about the disk, not about the path.
std::string made(const std::string& path) {
  try {
    make_directories(path);
  } catch (const UserError& error) {
    fail(error.code(), "{}; or choose another --run.dir", error.what());
  }
  return path;
}

}  // namespace

struct RunDirectory::State {
  State(const std::string& path_, Log& log_)
      : path(made(path_)),
        log(log_),
        lock(path, log),
        metrics(path + "/metrics.jsonl", log),
        events(path + "/events.jsonl", log),
        host(host_name()) {}

  std::string path;
  Log& log;
  RunLock lock;
  LineFile metrics;
  LineFile events;
  std::string host;
};

RunDirectory::RunDirectory(const std::string& path, Log& log)
    : state_(std::make_unique<State>(path, log)) {
  made(checkpoints());  // what is wrong with that name is said now, not when the first save fails
  drop_torn_line(path + "/events.jsonl");
  drop_torn_line(path + "/metrics.jsonl");
  // From here on a failure is this attempt's own.
  const std::string failure = state_->path + "/failure.json";
  std::error_code error;
  std::filesystem::remove(failure, error);
  if (error) fail(ExitCode::kIo, "{}: cannot remove: {}", failure, error.message());
}

RunDirectory::~RunDirectory() = default;

const std::string& RunDirectory::path() const { return state_->path; }
std::string RunDirectory::checkpoints() const { return state_->path + "/checkpoints"; }

void RunDirectory::write_config(const std::string& toml) {
  atomic_write_file(state_->path + "/config.toml", toml);
}

bool RunDirectory::has_validation(std::int64_t step) const {
  const std::string text = read_text_file(state_->path + "/metrics.jsonl").value_or("");
  const std::string start = fmt::format("{{\"step\":{},", step);
  for (std::size_t at = 0; (at = text.find(start, at)) != std::string::npos; at += start.size()) {
    const std::string line = text.substr(at, text.find('\n', at) - at);
    if (line.find("\"val_loss\"") != std::string::npos) return true;
  }
  return false;
}

void RunDirectory::begin(std::int64_t step) {
  state_->metrics.close();
  const std::int64_t cut =
      filter_lines(state_->path + "/metrics.jsonl",
                   [step](const std::string& line) { return row_stays(line, step); });
  if (cut > 0) {
    state_->log.info("metrics.jsonl: {} row{} after step {} cut; those steps come again", cut,
                     cut == 1 ? "" : "s", step);
  }
}

void RunDirectory::append(const MetricsRow& row) { state_->metrics.append(row_text(row)); }
void RunDirectory::append(const ValidationRow& row) { state_->metrics.append(row_text(row)); }

void RunDirectory::event(const std::string& kind, std::int64_t step, const EventDetails& details) {
  state_->events.append(event_text(kind, step, state_->host, details));
}

void RunDirectory::sync() {
  state_->metrics.sync();
  state_->events.sync();
}

void RunDirectory::check_lock() { state_->lock.check(); }
void RunDirectory::require_lock() { state_->lock.require(); }

}  // namespace lockstep
