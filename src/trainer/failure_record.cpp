// failure.json and the facts every record carries: the time, the job and its restart. Whoever fails
// first writes the record; everything after it is a consequence and stays out of it.
#include "core/error.h"
#include "files/staged.h"
#include "trainer/run_directory.h"
#include "trainer/run_files.h"

#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdlib>
#include <ctime>

namespace lockstep {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string failure_text(const FailureRecord& record) {
  nlohmann::ordered_json json;
  json["exit_code"] = record.exit_code;
  json["rank"] = record.rank;
  json["host"] = record.host;
  json["pid"] = record.pid;
  json["reported_by"] = record.reported_by;
  json["step"] = record.step;
  json["phase"] = record.phase;
  json["message"] = record.message;
  json["newest_checkpoint"] = record.newest_checkpoint;
  json["next_command"] = record.next_command;
  json["job"] = job_id();
  json["restart"] = job_restart();
  json["time"] = utc_now();
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace

std::string utc_now() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  const std::time_t seconds = static_cast<std::time_t>(ms / 1000);
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", utc.tm_year + 1900,
                     utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, ms % 1000);
}

std::string job_id() {
  const std::string array = environment("SLURM_ARRAY_JOB_ID");
  const std::string task = environment("SLURM_ARRAY_TASK_ID");
  if (!array.empty() && !task.empty()) return array + "_" + task;
  return environment("SLURM_JOB_ID");
}

int job_restart() { return std::atoi(environment("SLURM_RESTART_COUNT").c_str()); }

bool record_failure(const std::string& run_directory, const FailureRecord& record) noexcept {
  try {
    return publish_new_file(run_directory + "/failure.json", failure_text(record));
  } catch (const std::exception&) {
    return true;  // a record that cannot be written must not hide the error itself
  }
}

std::optional<FailureRecord> read_failure(const std::string& run_directory) {
  const std::string path = run_directory + "/failure.json";
  const auto text = read_text_file(path);
  if (!text) return std::nullopt;
  const auto json = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  FailureRecord record;
  try {
    record.exit_code = json.at("exit_code").get<int>();
    record.rank = json.at("rank").get<int>();
    record.host = json.at("host").get<std::string>();
    record.pid = json.at("pid").get<std::int64_t>();
    record.reported_by = json.value("reported_by", record.rank);
    record.step = json.at("step").get<std::int64_t>();
    record.phase = json.at("phase").get<std::string>();
    record.message = json.at("message").get<std::string>();
    record.newest_checkpoint = json.at("newest_checkpoint").get<std::string>();
    record.next_command = json.at("next_command").get<std::string>();
    record.job = json.value("job", "");
    record.restart = json.value("restart", 0);
  } catch (const nlohmann::json::exception&) {
    FailureRecord unreadable;
    unreadable.message = path + " cannot be read";
    return unreadable;
  }
  return record;
}

}  // namespace lockstep
