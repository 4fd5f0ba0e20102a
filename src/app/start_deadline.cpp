// The waiting thread carries a name that other ranks of the host can read in /proc: that is how
// they know who has arrived, without leaving files anywhere.
#include "app/start_deadline.h"

#include "core/error.h"
#include "core/process.h"

#include <pthread.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <system_error>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

constexpr const char* kThreadName = "lockstep-init";  // at most 15 characters

// A process of this job on this host.
struct LocalRank {
  int pid = 0;
  bool waits = false;    // in MPI_Init
  bool stopped = false;  // by a signal or a debugger
};

std::string content(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The value of a variable in a block of NAME=VALUE texts that end in zero bytes; "" without it.
std::string variable(const std::string& block, const std::string& name) {
  const std::string key = '\0' + name + "=";
  const std::size_t at = ('\0' + block).find(key);
  if (at == std::string::npos) return "";
  return block.c_str() + at + key.size() - 1;
}

LocalRank look_at(const fs::path& process, int pid) {
  LocalRank found{.pid = pid};
  std::error_code gone;
  for (const auto& task : fs::directory_iterator(process / "task", gone)) {
    if (content(task.path() / "comm") == std::string(kThreadName) + "\n") found.waits = true;
  }
  const std::string stat = content(process / "stat");
  const std::size_t name_end = stat.rfind(')');
  if (name_end != std::string::npos && name_end + 2 < stat.size()) {
    found.stopped = stat[name_end + 2] == 'T' || stat[name_end + 2] == 't';
  }
  return found;
}

// By rank. A rank may be several processes, a wrapper and the program: one that waits counts first.
std::map<int, LocalRank> local_ranks(const std::string& job) {
  std::map<int, LocalRank> ranks;
  std::error_code ignored;
  for (const auto& process : fs::directory_iterator("/proc", ignored)) {
    const std::string name = process.path().filename();
    int pid = 0;
    const auto [stop, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error != std::errc() || stop != name.data() + name.size()) continue;
    const std::string environment = content(process.path() / "environ");
    if (variable(environment, "PMIX_NAMESPACE") != job) continue;
    const std::string rank = variable(environment, "PMIX_RANK");
    if (rank.empty()) continue;
    const LocalRank found = look_at(process.path(), pid);
    LocalRank& known = ranks[std::atoi(rank.c_str())];
    if (!known.waits) known = found;
  }
  return ranks;
}

}  // namespace

StartDeadline::StartDeadline(double seconds, std::function<int()> report) {
  const SignalsBlocked during_start;
  thread_ = std::thread([this, seconds, report = std::move(report)] {
    pthread_setname_np(pthread_self(), kThreadName);
    std::unique_lock guard(mutex_);
    const std::chrono::duration<double> limit(seconds);
    if (wake_.wait_for(guard, limit, [this] { return started_; })) return;
    _exit(report());
  });
}

StartDeadline::~StartDeadline() {
  {
    const std::lock_guard guard(mutex_);
    started_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

std::string describe_start(const Environment& environment) {
  const char* job = environment("PMIX_NAMESPACE");
  if (job == nullptr) return "a rank has not started or cannot be reached";
  const std::map<int, LocalRank> ranks = local_ranks(job);
  std::string waiting, missing;
  bool lower_waits = false;
  for (const auto& [rank, state] : ranks) {
    if (state.waits) {
      waiting += fmt::format("{} {}", waiting.empty() ? "" : ",", rank);
      lower_waits = lower_waits || rank < launcher_rank(environment);
    } else {
      missing += fmt::format("; rank {} (pid {}) {}", rank, state.pid,
                             state.stopped ? "is stopped" : "has not come to MPI_Init");
    }
  }
  if (lower_waits) return "";
  if (missing.empty()) missing = "; nobody is missing here: look for a host that says nothing";
  return fmt::format("on {} wait rank(s){}{}", host_name(), waiting, missing);
}

}  // namespace lockstep
