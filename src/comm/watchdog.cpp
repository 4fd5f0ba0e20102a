// One thread that polls a pidfd per peer of this host and counts how long the main thread has been
// silent. Shut-down is a handshake: every rank calls disarm(), then all meet in World::barrier()
// (the caller's), then they may leave in any order; so a peer that vanishes from under an armed
// watchdog has always died. It never touches MPI, CUDA or NCCL: those may be what hangs.
#include "comm/watchdog.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <thread>
#include <utility>

namespace lockstep {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;

constexpr long kPidfdOpen = 434;  // the same on every architecture; older headers lack the name
constexpr int kPollMs = 25;
// A peer that failed with an error of its own writes its record first; ours would only say that
// it is gone.
constexpr int kGraceMs = 150;
// Longer gaps between two polls mean that this whole process was stopped: not the main thread's
// fault, so they do not count as its silence.
constexpr Seconds kLongestTick{1.0};

// A file descriptor with an owner.
class Descriptor {
 public:
  explicit Descriptor(int value = -1) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) close(value_);
  }
  Descriptor(Descriptor&& other) noexcept : value_(std::exchange(other.value_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  int get() const { return value_; }

 private:
  int value_;
};

struct Peer {
  int rank;
  pid_t pid;
  std::string host;
  Descriptor pidfd;   // -1 where the kernel has none: then asked by signal 0
  bool gone = false;  // already dead when it was looked for
};

// Process ids mean the same only within one boot of one host and one pid namespace.
std::string process_space() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  char space[64] = {};
  if (readlink("/proc/self/ns/pid", space, sizeof(space) - 1) < 0) space[0] = '\0';
  return boot + space;
}

Peer open_peer(int rank, pid_t pid, std::string host) {
  Peer peer{rank, pid, std::move(host), Descriptor(static_cast<int>(syscall(kPidfdOpen, pid, 0)))};
  peer.gone = peer.pidfd.get() < 0 && errno == ESRCH;
  return peer;
}

bool is_gone(const Peer& peer, short revents) {
  if (peer.gone || revents != 0) return true;
  return peer.pidfd.get() < 0 && kill(peer.pid, 0) != 0 && errno == ESRCH;
}

// Signals stay with the main thread, whose handlers and sleeps expect them.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

struct Watchdog::State {
  std::vector<Peer> peers;
  double timeout_seconds;
  OnFailure on_failure;
  std::atomic<std::uint64_t> beats{0};
  std::atomic<bool> disarmed{false};
  Descriptor stop{eventfd(0, EFD_CLOEXEC)};
  std::thread thread;

  void run();
  void fail_process(const std::string& cause);
  bool stopped_within(int milliseconds);
  const Peer* poll_peers(std::vector<pollfd>& fds);
};

// True if stop() was asked for before the time is over.
bool Watchdog::State::stopped_within(int milliseconds) {
  pollfd fd{stop.get(), POLLIN, 0};
  return poll(&fd, 1, milliseconds) > 0;
}

// Waits up to one poll interval; returns a peer that is gone, or null. fds[0] is `stop`.
const Peer* Watchdog::State::poll_peers(std::vector<pollfd>& fds) {
  if (poll(fds.data(), fds.size(), kPollMs) < 0) return nullptr;
  for (std::size_t i = 0; i < peers.size(); ++i) {
    if (is_gone(peers[i], fds[i + 1].revents)) return &peers[i];
  }
  return nullptr;
}

void Watchdog::State::run() {
  std::vector<pollfd> fds{{stop.get(), POLLIN, 0}};
  for (const Peer& peer : peers) fds.push_back({peer.pidfd.get(), POLLIN, 0});
  std::uint64_t last_beat = 0;
  Seconds silent{0};
  auto last_tick = Clock::now();
  while (true) {
    const Peer* lost = poll_peers(fds);
    if (fds[0].revents != 0 || disarmed) return;
    if (lost != nullptr) {
      if (stopped_within(kGraceMs)) return;
      fail_process(
          fmt::format("rank {} (pid {} on {}) is gone", lost->rank, lost->pid, lost->host));
    }
    const auto now = Clock::now();
    silent += std::min<Seconds>(now - last_tick, kLongestTick);
    last_tick = now;
    if (const std::uint64_t beat = beats; beat != last_beat) {
      last_beat = beat;
      silent = Seconds{0};
    }
    if (silent.count() > timeout_seconds) {
      fail_process(
          fmt::format("no progress for {:g} s (comm.timeout_seconds): this rank or a peer "
                      "hangs",
                      timeout_seconds));
    }
  }
}

// _exit: destructors and exit handlers could wait for the very thing that hangs.
void Watchdog::State::fail_process(const std::string& cause) {
  try {
    on_failure(cause);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "watchdog: %s; its record failed: %s\n", cause.c_str(), error.what());
  }
  _exit(static_cast<int>(ExitCode::kPeer));
}

Watchdog::Watchdog(World& world, double timeout_seconds, OnFailure on_failure)
    : state_(std::make_unique<State>()) {
  CHECK(timeout_seconds > 0, "timeout_seconds {}", timeout_seconds);
  CHECK(state_->stop.get() >= 0, "eventfd: {}", errno_text(errno));
  state_->timeout_seconds = timeout_seconds;
  state_->on_failure = std::move(on_failure);
  const std::string space = process_space();
  const auto all = world.all_gather(fmt::format("{} {}", getpid(), space));
  for (int r = 0; r < world.size(); ++r) {
    const std::string& text = all[static_cast<std::size_t>(r)];
    const std::size_t blank = text.find(' ');
    if (r == world.rank() || text.substr(blank + 1) != space) continue;
    const auto pid = static_cast<pid_t>(std::stol(text.substr(0, blank)));
    state_->peers.push_back(open_peer(r, pid, world.placement().host));
  }
  const SignalsBlocked during_start;
  state_->thread = std::thread([state = state_.get()] { state->run(); });
}

Watchdog::~Watchdog() {
  const std::uint64_t one = 1;
  if (write(state_->stop.get(), &one, sizeof(one)) < 0) state_->disarmed = true;
  state_->thread.join();
}

void Watchdog::progress() { ++state_->beats; }

void Watchdog::disarm() { state_->disarmed = true; }

}  // namespace lockstep
