// One thread that polls a pidfd per peer of this host, keeps in touch with the watchdogs of all
// ranks, and counts how long the main thread has been silent. Shut-down is a handshake: every rank
// calls disarm(), then all meet in World::barrier() (the caller's), then they may leave in any
// order; so a peer that vanishes from under an armed watchdog has always died. It never touches
// MPI, CUDA or NCCL: those may be what hangs.
#include "comm/watchdog.h"

#include "comm/pulse_link.h"
#include "core/process.h"
#include "files/descriptor.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <future>
#include <optional>
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
constexpr Seconds kPrintLimit{1.0};

struct Peer {
  PeerName name;
  Descriptor pidfd;   // -1 where the kernel has none: then asked by signal 0
  bool gone = false;  // already dead when it was looked for
};

Peer open_peer(const PeerName& name) {
  Peer peer{name, Descriptor(static_cast<int>(syscall(kPidfdOpen, name.pid, 0)))};
  peer.gone = peer.pidfd.get() < 0 && errno == ESRCH;
  return peer;
}

bool is_gone(const Peer& peer, short revents) {
  if (peer.gone || revents != 0) return true;
  return peer.pidfd.get() < 0 && kill(static_cast<pid_t>(peer.name.pid), 0) != 0 && errno == ESRCH;
}

// Runs `action` on a thread of its own, which is left behind at the limit; false then, or without a
// thread.
bool done_within(Seconds limit, std::function<void()> action) {
  try {
    std::promise<void> promise;
    const std::future<void> done = promise.get_future();
    std::thread([action = std::move(action), promise = std::move(promise)]() mutable {
      action();
      promise.set_value();
    }).detach();
    return done.wait_for(limit) == std::future_status::ready;
  } catch (const std::exception&) {
    return false;
  }
}

void print_line(const std::string& text) {
  const std::string line = text + "\n";
  if (write(STDERR_FILENO, line.data(), line.size()) < 0) return;  // nobody left to tell
}

}  // namespace

struct Watchdog::State {
  explicit State(World& world_) : world(world_) {}
  ~State() {
    const std::uint64_t one = 1;
    if (write(stop.get(), &one, sizeof(one)) < 0) disarmed = true;
    if (thread.joinable()) thread.join();
  }

  World& world;
  std::vector<PeerName> names;  // by rank
  std::vector<Peer> peers;      // of this host
  std::optional<PulseLink> link;
  WatchdogSettings settings;
  std::atomic<std::uint64_t> beats{0};
  std::atomic<bool> disarmed{false};
  Descriptor stop{eventfd(0, EFD_CLOEXEC)};
  std::thread thread;

  void run();
  std::optional<Verdict> watch(std::vector<pollfd>& fds, Seconds silent);
  std::optional<Verdict> lost_peer(const std::vector<pollfd>& fds) const;
  Pulse pulse(Seconds silent) const;
  void fail_process(const Verdict& verdict);
  bool stopped_within(int milliseconds);
};

// True if stop() was asked for before the time is over.
bool Watchdog::State::stopped_within(int milliseconds) {
  pollfd fd{stop.get(), POLLIN, 0};
  return poll(&fd, 1, milliseconds) > 0;
}

Pulse Watchdog::State::pulse(Seconds silent) const {
  Pulse own{.calls = world.calls(), .silent_seconds = silent.count()};
  if (settings.communicator != nullptr) own.calls += settings.communicator->calls();
  if (settings.position) own.position = settings.position();
  return own;
}

// A peer of this host whose process is gone; fds[1 + i] is peer i.
std::optional<Verdict> Watchdog::State::lost_peer(const std::vector<pollfd>& fds) const {
  for (std::size_t i = 0; i < peers.size(); ++i) {
    if (is_gone(peers[i], fds[i + 1].revents)) {
      return Verdict{peers[i].name.rank, peers[i].name.text() + " is gone"};
    }
  }
  return link ? link->lost() : std::nullopt;
}

// Waits up to one poll interval. What others tell goes first: they may know better who began.
std::optional<Verdict> Watchdog::State::watch(std::vector<pollfd>& fds, Seconds silent) {
  fds.assign(1, {stop.get(), POLLIN, 0});
  for (const Peer& peer : peers) fds.push_back({peer.pidfd.get(), POLLIN, 0});
  if (link) link->add_to(fds);
  if (poll(fds.data(), fds.size(), kPollMs) < 0) fds.assign(fds.size(), {-1, 0, 0});
  if (link) {
    if (auto told = link->serve(pulse(silent))) return told;
  } else if (silent.count() > settings.timeout_seconds) {
    return silence_alone(settings.timeout_seconds);
  }
  const auto lost = lost_peer(fds);
  if (!lost || stopped_within(kGraceMs)) return std::nullopt;
  if (link) {
    if (auto told = link->serve(pulse(silent))) return told;
  }
  return lost;
}

void Watchdog::State::run() {
  std::vector<pollfd> fds;
  std::uint64_t last_beat = 0;
  Seconds silent{0};
  auto last_tick = Clock::now();
  while (!disarmed && !stopped_within(0)) {
    const auto verdict = watch(fds, silent);
    if (verdict && !disarmed && !stopped_within(0)) {
      if (link) link->tell(*verdict);
      fail_process(*verdict);
    }
    const auto now = Clock::now();
    silent += std::min<Seconds>(now - last_tick, kLongestTick);
    last_tick = now;
    if (const std::uint64_t beat = beats; beat != last_beat) {
      last_beat = beat;
      silent = Seconds{0};
    }
  }
  if (link) link->farewell();
}

// Recording writes to disks and pipes that may be what hangs, so it has a limit. _exit: destructors
// and exit handlers could wait for the same.
void Watchdog::State::fail_process(const Verdict& verdict) {
  PeerName who = verdict.rank < 0 ? PeerName{} : names[static_cast<std::size_t>(verdict.rank)];
  if (verdict.rank < 0) who.rank = -1;
  const std::string& cause = verdict.cause;
  const bool recorded = done_within(Seconds(settings.record_seconds), [this, cause, who] {
    try {
      settings.on_failure(cause, who);
    } catch (const std::exception& error) {
      print_line(fmt::format("watchdog: {}; its record failed: {}", cause, error.what()));
    }
  });
  if (!recorded) {
    done_within(kPrintLimit, [this, cause] {
      print_line(fmt::format("watchdog: {}; no record of it could be written within {:g} s", cause,
                             settings.record_seconds));
    });
  }
  _exit(static_cast<int>(ExitCode::kPeer));
}

Watchdog::Watchdog(World& world, WatchdogSettings settings)
    : state_(std::make_unique<State>(world)) {
  State& s = *state_;
  CHECK(settings.timeout_seconds > 0, "timeout_seconds {}", settings.timeout_seconds);
  CHECK(s.stop.get() >= 0, "eventfd: {}", errno_text(errno));
  s.settings = std::move(settings);
  const auto pids = world.all_gather_values(static_cast<std::int64_t>(getpid()));
  const auto hosts = world.all_gather(world.placement().host);
  const auto spaces = world.all_gather(process_space());
  for (int r = 0; r < world.size(); ++r) {
    const auto rank = static_cast<std::size_t>(r);
    s.names.push_back({.rank = r, .pid = pids[rank], .host = hosts[rank]});
    const bool here = spaces[rank] == process_space() && !spaces[rank].empty();
    if (r != world.rank() && here) s.peers.push_back(open_peer(s.names.back()));
  }
  if (world.size() > 1) s.link.emplace(world, s.names, s.settings.timeout_seconds);
  {
    const SignalsBlocked during_start;
    s.thread = std::thread([&s] { s.run(); });
  }
  if (world.size() == 1) return;
  for (const std::string& problem : world.all_gather(s.link->problem())) {
    if (problem_.empty()) problem_ = problem;
  }
}

Watchdog::~Watchdog() = default;

void Watchdog::progress() { ++state_->beats; }

void Watchdog::disarm() { state_->disarmed = true; }

}  // namespace lockstep
