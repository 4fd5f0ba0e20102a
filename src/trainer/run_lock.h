// The lock of a run directory: one trainer at a time, on any host that sees the folder.
// It names a process, not just a number: boot, process-id namespace, pid and start time, so that a
// reused pid or a rebooted host is not mistaken for the trainer. A holder on another machine is
// judged by its heartbeat, which is the file's modification time and moves as long as the process
// lives, whatever its main thread is busy with. An earlier start of the same batch job is believed
// gone sooner than a stranger.
#pragma once

#include "core/log.h"
#include "files/descriptor.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

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
  // Takes RUN/lock; a stale one is taken over and reported. From here on a thread moves the
  // heartbeat, and makes a lock that was removed again. Throws UserError(kConfig) if a live trainer
  // holds it, UserError(kIo) if the folder cannot be written.
  RunLock(const std::string& run_directory, Log& log, const LockSettings& settings = {});
  ~RunLock();  // removes the lock if it is still this one's
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  // Throws UserError(kConfig) if the last heartbeat found another trainer's lock: this process was
  // stopped for so long that it passed for dead. Costs nothing; call often.
  void check();
  // The same, but looks at the folder now: before anything in it is replaced.
  void require();

 private:
  void keep();
  void hold();
  void take(bool alone);
  bool is_earlier_start(const LockHolder& holder) const;
  bool shows_life();
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
  std::string lost_to_;  // who has taken the lock over, or ""
  std::atomic<bool> lost_{false};
  bool ended_ = false;
  std::mutex mutex_;  // of all above, once the keeper runs
  std::condition_variable wake_;
  std::thread keeper_;
};

}  // namespace lockstep
