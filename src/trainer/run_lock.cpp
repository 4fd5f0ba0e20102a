// Taking, keeping and losing the lock of a run directory. A lock appears with its whole content
// (publish_new_file) and is taken over by renaming it away and looking at what was caught, so that
// of two starters one wins, whatever the timing.
#include "trainer/run_lock.h"

#include "core/error.h"
#include "core/process.h"
#include "files/lock.h"
#include "files/staged.h"
#include "trainer/run_directory.h"
#include "trainer/run_files.h"

#include <nlohmann/json.hpp>

#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

namespace lockstep {
namespace {

// A file of /proc may vanish between open and read; then it reads as empty.
std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// State letter and start time of a process; '\0' if there is none.
struct ProcessStatus {
  char state = '\0';
  std::uint64_t start_ticks = 0;
};
ProcessStatus process_status(std::int64_t pid) {
  const std::string text = first_line("/proc/" + std::to_string(pid) + "/stat");
  // The second field, the name in parentheses, may hold anything; the others are plain.
  const std::size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return {};
  std::istringstream fields(text.substr(name_end + 1));
  ProcessStatus status;
  std::string skipped;
  fields >> status.state;
  for (int field = 4; field < 22; ++field) fields >> skipped;
  fields >> status.start_ticks;
  return status;
}

LockHolder this_process() {
  LockHolder self;
  self.host = host_name();
  self.machine = process_space();
  self.pid = ::getpid();
  self.start_ticks = process_status(self.pid).start_ticks;
  self.job = job_id();
  return self;
}

std::string lock_text(const LockHolder& holder) {
  nlohmann::ordered_json json;
  json["host"] = holder.host;
  json["pid"] = holder.pid;
  json["start_ticks"] = holder.start_ticks;
  json["job"] = holder.job;
  json["machine"] = holder.machine;
  json["heartbeat"] = utc_now();  // always as long, so that a heartbeat overwrites it in place
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

LockHolder parse_lock(const std::string& text) {
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  LockHolder holder;
  if (!json.is_object()) return holder;
  try {
    holder.host = json.at("host").get<std::string>();
    holder.machine = json.at("machine").get<std::string>();
    holder.pid = json.at("pid").get<std::int64_t>();
    holder.start_ticks = json.at("start_ticks").get<std::uint64_t>();
    holder.job = json.at("job").get<std::string>();
    holder.heartbeat = json.at("heartbeat").get<std::string>();
  } catch (const nlohmann::json::exception&) {
    return LockHolder{};
  }
  return holder;
}

double seconds_of(const timespec& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// By the file system's own clock (a file written now tells it): hosts' clocks may differ. Opening
// makes a network file system ask its server.
double age_by_file_system(const std::string& path) {
  const std::string probe = path + ".clock." + std::to_string(::getpid());
  struct stat now {
  }, then{};
  const FileSystem files;
  Descriptor file, lock;
  const bool known = files.open(file, probe, OpenMode::kAppend) == 0 &&
                     files.open(lock, path, OpenMode::kRead) == 0 &&
                     ::futimens(file.get(), nullptr) == 0 && ::fstat(file.get(), &now) == 0 &&
                     ::fstat(lock.get(), &then) == 0;
  ::unlink(probe.c_str());
  return known ? seconds_of(now.st_mtim) - seconds_of(then.st_mtim) : 0.0;
}

// Keeps other starters of this run out while the lock changes hands. Only a help: its lock may stay
// on this host, or be refused; renaming alone decides.
class StarterGate {
 public:
  StarterGate(const std::string& lock, bool use_flock)
      : path_((std::filesystem::path(lock).parent_path() / ".lock.gate").string()) {
    for (int attempt = 0; use_flock && attempt < 200; ++attempt) {
      const int error = gate_.try_take(path_);
      if (error != EWOULDBLOCK && error != ESTALE) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  ~StarterGate() {
    if (held()) FileSystem().remove_file(path_);
  }
  StarterGate(const StarterGate&) = delete;
  StarterGate& operator=(const StarterGate&) = delete;
  bool held() const { return gate_.held(); }

 private:
  std::string path_;
  FileLock gate_;
};

// Leftovers of starters that were killed between two system calls.
void remove_old_temporaries(const std::string& lock) {
  const std::filesystem::path path(lock);
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(path.parent_path(), ignored)) {
    const bool ours = entry.path().filename().string().starts_with("lock.");
    if (ours && file_age(entry.path()) > kLockStaleSeconds) {
      std::filesystem::remove(entry.path(), ignored);
    }
  }
}

}  // namespace

std::optional<LockHolder> read_lock(const std::string& path) {
  const auto text = read_text_file(path);
  if (!text) return std::nullopt;
  return parse_lock(*text);
}

bool is_alive(const LockHolder& holder, double age_seconds) {
  const std::string machine = process_space();
  const bool same_machine =
      holder.pid > 0 && holder.host == host_name() && holder.machine == machine;
  if (!same_machine) return age_seconds < kLockStaleSeconds;
  const ProcessStatus status = process_status(holder.pid);
  if (machine.empty()) return ::kill(static_cast<pid_t>(holder.pid), 0) == 0 || errno == EPERM;
  const bool gone = status.state == '\0' || status.state == 'Z' || status.state == 'X';
  return !gone && status.start_ticks == holder.start_ticks;
}

double file_age(const std::string& path) {
  struct stat status {};
  timespec now{};
  if (::stat(path.c_str(), &status) != 0 || ::clock_gettime(CLOCK_REALTIME, &now) != 0) return 0.0;
  return seconds_of(now) - seconds_of(status.st_mtim);
}

std::string describe(const LockHolder& holder) {
  if (holder.pid == 0) return "an unreadable lock";
  const std::string job = holder.job.empty() ? "" : fmt::format(" (job {})", holder.job);
  return fmt::format("pid {} on {}{}", holder.pid, holder.host, job);
}

RunLock::RunLock(const std::string& run_directory, Log& log, const LockSettings& settings)
    : path_(run_directory + "/lock"), log_(log), settings_(settings), self_(this_process()) {
  const StarterGate gate(path_, settings.use_flock);
  take(gate.held());
  remove_old_temporaries(path_);
  const SignalsBlocked during_start;
  keeper_ = std::thread([this] { keep(); });
}

// `alone`: no other starter of this host acts before this returns. A starter elsewhere that judged
// an old lock may still rename the new one away, so after a take-over the lock counts only when it
// has outlived such starters.
void RunLock::take(bool alone) {
  constexpr int kAttempts = 100;  // each one lost to another starter that was faster
  constexpr auto kSettle = std::chrono::milliseconds(300);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (publish() || open_own()) {
      if (!alone) std::this_thread::sleep_for(kSettle);
      if (owns_path()) return;
    }
    const auto seen = read_text_file(path_);
    if (!seen || *seen == published_) continue;  // ours: a slower starter moved it and put it back
    const LockHolder holder = parse_lock(*seen);
    const double age = age_by_file_system(path_);
    if (is_earlier_start(holder) ? shows_life() : is_alive(holder, age)) {
      fail(ExitCode::kConfig,
           "{}: another trainer holds this run directory: {}, heartbeat {:.0f} s ago; stop it, or "
           "choose another --run.dir (a trainer that was killed on another host is taken over "
           "{:.0f} s after its last heartbeat)",
           path_, describe(holder), age, kLockStaleSeconds);
    }
    alone = false;
    if (set_stale_aside(*seen, holder)) continue;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  fail(ExitCode::kConfig, "{}: other trainers keep taking this lock; choose another --run.dir",
       path_);
}

// A batch system runs a job once at a time: a holder of the same job elsewhere is an earlier start,
// which ended with its node or lost it.
bool RunLock::is_earlier_start(const LockHolder& holder) const {
  const bool same_job = holder.pid > 0 && !holder.job.empty() && holder.job == self_.job;
  return same_job && (holder.host != self_.host || holder.machine != self_.machine);
}

// Whether the heartbeat moves. Two that are missing are enough: should the other start live after
// all, it finds out at its next heartbeat and stops.
bool RunLock::shows_life() {
  const double limit = 2.5 * settings_.heartbeat_seconds;
  double age = age_by_file_system(path_);
  if (age < limit) {
    log_.info("{}: left by an earlier start of this job; {:.0f} s to see whether it lives", path_,
              limit - age);
  }
  while (age < limit) {
    std::this_thread::sleep_for(std::chrono::duration<double>(limit / 100.0));
    const double later = age_by_file_system(path_);
    if (later < age) return std::filesystem::exists(path_);
    age = later;
  }
  return false;
}

// Renames the lock away and looks at what was caught: if it is not what was judged stale, another
// starter was faster, and its lock is put back.
bool RunLock::set_stale_aside(const std::string& seen, const LockHolder& holder) {
  const std::string aside = path_ + ".stale." + self_.host + "." + std::to_string(self_.pid);
  if (FileSystem().rename(path_, aside) != 0) return false;
  const bool caught = read_text_file(aside) == seen;
  if (!caught) static_cast<void>(FileSystem().link(aside, path_));
  ::unlink(aside.c_str());
  if (caught) {
    log_.warn("{}: taken over from {}, which is gone (last heartbeat {})", path_, describe(holder),
              holder.heartbeat.empty() ? "unknown" : holder.heartbeat);
  }
  return caught;
}

// True if the lock was free and is now ours.
bool RunLock::publish() {
  const std::string text = lock_text(self_);
  if (!publish_new_file(path_, text)) return false;
  published_ = text;
  return open_own();
}

// True if the lock that this object published stands there; keeps it open to know it again.
bool RunLock::open_own() {
  if (published_.empty()) return false;
  file_.reset();
  const int error = FileSystem().open(file_, path_, OpenMode::kUpdate);
  if (error != 0 && error != ENOENT) fail_io(path_, "open for writing", error);
  std::string found(published_.size(), '\0');
  return file_ && ::pread(file_.get(), found.data(), found.size(), 0) > 0 && found == published_;
}

bool RunLock::owns_path() const { return is_same_file(file_, path_); }

void RunLock::keep() {
  const std::chrono::duration<double> interval(settings_.heartbeat_seconds);
  std::unique_lock guard(mutex_);
  while (!wake_.wait_for(guard, interval, [this] { return ended_; })) {
    try {
      hold();
      // A failed write does not matter as long as the modification time moves.
      const std::string text = lock_text(self_);
      const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
      if (FileSystem().write_at(file_, path_, bytes, 0) != 0) ::futimens(file_.get(), nullptr);
    } catch (const UserError& error) {
      // The disk may be full or away for a while; only another trainer's lock is the end.
      if (error.code() == ExitCode::kConfig) return;
    }
  }
}

// Makes sure that the lock is this one's; the mutex is held.
void RunLock::hold() {
  if (lost_to_.empty() && !owns_path()) {
    const auto other = read_lock(path_);
    if (other || !publish()) {
      lost_to_ = other ? describe(*other) : "another trainer";
      lost_ = true;
    } else {
      log_.warn("{}: was removed while training; it is there again", path_);
    }
  }
  if (!lost_to_.empty()) {
    fail(ExitCode::kConfig, "{}: taken over by {}; two trainers must not share a run directory",
         path_, lost_to_);
  }
}

void RunLock::check() {
  if (lost_) require();
}

void RunLock::require() {
  const std::lock_guard guard(mutex_);
  hold();
}

RunLock::~RunLock() {
  {
    const std::lock_guard guard(mutex_);
    ended_ = true;
  }
  wake_.notify_one();
  keeper_.join();
  if (owns_path()) ::unlink(path_.c_str());
}

}  // namespace lockstep
