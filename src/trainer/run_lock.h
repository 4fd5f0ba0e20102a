// The lock of a run directory: one trainer at a time, on any host that sees the folder.
// It names a process, not just a number: boot, process-id namespace, pid and start time, so that a
// reused pid or a rebooted host is not mistaken for the trainer. A holder on another machine is
// judged by its heartbeat, which is the file's modification time.
#pragma once

#include "core/log.h"
#include "files/files.h"

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace lockstep {

inline constexpr double kLockStaleSeconds = 120.0;
inline constexpr double kHeartbeatSeconds = 10.0;

struct LockHolder {
  std::string host;
  std::string machine;  // boot id and pid namespace; "" where /proc does not tell
  std::int64_t pid = 0;
  std::uint64_t start_ticks = 0;  // of the process, since boot; 0: not known
  std::string job;
  std::string heartbeat;  // ISO 8601, UTC
};

// Nothing if there is no lock; a holder with pid 0 if the file cannot be understood.
std::optional<LockHolder> read_lock(const std::string& path);
// `age_seconds`: since the lock's last heartbeat.
bool is_alive(const LockHolder& holder, double age_seconds);
// Seconds since the file was last written, by this host's clock.
double file_age(const std::string& path);
// "pid 4711 on node7 (job 12)".
std::string describe(const LockHolder& holder);

struct LockSettings {
  double heartbeat_seconds = kHeartbeatSeconds;
  bool use_flock = true;  // false: as on a file system that has none
};

class RunLock {
 public:
  // Takes RUN/lock; a stale one is taken over and reported. Throws UserError(kConfig) if a live
  // trainer holds it, UserError(kIo) if the folder cannot be written.
  RunLock(const std::string& run_directory, Log& log, const LockSettings& settings = {});
  ~RunLock();  // removes the lock if it is still this one's
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  // Writes at most every `heartbeat_seconds`. A lock that was removed is made again. Throws
  // UserError(kConfig) if another trainer has taken it over meanwhile.
  void heartbeat();

 private:
  void take(bool alone);
  bool set_stale_aside(const std::string& seen, const LockHolder& holder);
  bool publish();
  bool open_own();
  bool owns_path() const;

  std::string path_;
  Log& log_;
  LockSettings settings_;
  LockHolder self_;
  std::string published_;  // the text of the lock that this object made
  Descriptor file_;
  std::chrono::steady_clock::time_point last_beat_;
};

}  // namespace lockstep
