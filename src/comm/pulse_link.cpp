// Messages of one size over TCP, whole structs: all ranks run the same program. Every socket is
// non-blocking but during start-up; a peer that does not read loses pulses, never time of ours.
#include "comm/pulse_link.h"

#include "comm/pulse_socket.h"
#include "core/process.h"

#include <algorithm>
#include <cerrno>

namespace lockstep {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPulseInterval = std::chrono::milliseconds(500);
// A rank that was not heard for so long does not answer. It is sent little until it does, so that
// nothing piles up in the sockets of a process that is stopped.
constexpr auto kStale = std::chrono::seconds(5);
constexpr auto kStaleInterval = std::chrono::seconds(30);
// How long a silent rank waits for rank 0's verdict before it leaves without.
constexpr auto kVerdictLimit = std::chrono::seconds(3);

PulseMessage pulse_message(int rank, const Pulse& pulse) {
  PulseMessage message{.kind = PulseMessage::kPulse, .rank = rank, .calls = pulse.calls};
  message.silent_seconds = pulse.silent_seconds;
  message.set_text(pulse.position);
  return message;
}

// One connection and what is known of the rank at its other end.
struct Line {
  PulseSocket socket;
  int rank = -1;  // not known before its greeting
  bool left = false;
  std::optional<Pulse> pulse;
  Clock::time_point heard = Clock::now();
  Clock::time_point next_pulse{};
};

}  // namespace

Verdict judge_silence(const std::vector<PeerName>& names,
                      const std::vector<std::optional<Pulse>>& pulses, double timeout_seconds) {
  const std::string start =
      fmt::format("no progress for {:g} s (comm.timeout_seconds): ", timeout_seconds);
  std::uint64_t most = 0;
  const PeerName* behind = nullptr;
  for (std::size_t rank = 0; rank < names.size(); ++rank) {
    const std::string name = names[rank].text();
    if (!pulses[rank]) {
      return {names[rank].rank,
              start + name + " does not answer; its process is stopped or its host hangs"};
    }
    most = std::max(most, pulses[rank]->calls);
    if (behind == nullptr ||
        pulses[rank]->calls < pulses[static_cast<std::size_t>(behind->rank)]->calls) {
      behind = &names[rank];
    }
  }
  const Pulse& last = *pulses[static_cast<std::size_t>(behind->rank)];
  if (last.calls == most) {
    return {-1, start + "all ranks wait in the same collective; a GPU or the network hangs (" +
                    last.position + ")"};
  }
  return {behind->rank, fmt::format("{}{} hangs, at {}; the others wait for it", start,
                                    behind->text(), last.position)};
}

Verdict silence_alone(double timeout_seconds) {
  return {-1,
          fmt::format("no progress for {:g} s (comm.timeout_seconds): this rank or a peer hangs",
                      timeout_seconds)};
}

struct PulseLink::State {
  int rank = 0;
  std::vector<PeerName> names;
  double timeout_seconds = 600.0;
  Clock::duration stale = kStale;
  std::string token;
  std::string problem;
  PulseSocket listener;     // rank 0
  std::vector<Line> lines;  // rank 0: to everybody; others: to rank 0
  Clock::time_point silent_since{};

  bool hub() const { return rank == 0; }
  void accept_lines();
  std::optional<Verdict> receive(Line& line);
  std::optional<Verdict> handle(Line& line, const PulseMessage& message);
  bool greet(Line& line, const PulseMessage& message);
  std::optional<Verdict> watch_silence(const Pulse& own);
  std::vector<std::optional<Pulse>> pulses(const Pulse& own) const;
  void send_all(const PulseMessage& message, const Line* but = nullptr);
};

PulseLink::PulseLink(World& world, std::vector<PeerName> names, double timeout_seconds)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.rank = world.rank();
  s.names = std::move(names);
  s.timeout_seconds = timeout_seconds;
  s.stale =
      std::min<Clock::duration>(kStale, std::chrono::duration_cast<Clock::duration>(
                                            std::chrono::duration<double>(timeout_seconds / 2)));
  std::string address;
  if (s.hub()) {
    s.token = random_token();
    s.listener = PulseSocket::listen(s.problem);
    if (s.problem.empty()) address = s.token + " " + own_addresses(s.listener.port());
  }
  address = world.broadcast(address, /*root=*/0);
  if (s.hub()) return;
  if (address.empty()) {
    s.problem = "rank 0 cannot listen";
    return;
  }
  s.token = address.substr(0, address.find(' '));
  PulseMessage hello{.kind = PulseMessage::kHello, .rank = s.rank};
  hello.set_text(s.token);
  PulseSocket socket =
      PulseSocket::connect(address.substr(address.find(' ') + 1), hello, s.problem);
  if (s.problem.empty()) s.lines.push_back({.socket = std::move(socket), .rank = 0});
}

PulseLink::~PulseLink() = default;

const std::string& PulseLink::problem() const { return state_->problem; }

void PulseLink::add_to(std::vector<pollfd>& fds) const {
  if (state_->listener.open()) fds.push_back({state_->listener.get(), POLLIN, 0});
  for (const Line& line : state_->lines) {
    if (line.socket.open()) fds.push_back({line.socket.get(), POLLIN, 0});
  }
}

void PulseLink::State::accept_lines() {
  while (true) {
    PulseSocket socket = listener.accept();
    if (!socket.open()) return;
    // Strangers may knock, and are sent away when they do not greet; lines are never many.
    std::erase_if(lines, [now = Clock::now()](const Line& line) {
      return line.rank < 0 && (!line.socket.open() || now - line.heard > kStale);
    });
    if (lines.size() < 2 * names.size()) lines.push_back({.socket = std::move(socket)});
  }
}

// The greeting makes a line that of a rank; anything else before it ends the line.
bool PulseLink::State::greet(Line& line, const PulseMessage& message) {
  const bool known = message.kind == PulseMessage::kHello && message.text_view() == token &&
                     message.rank > 0 && message.rank < static_cast<int>(names.size());
  const auto has_it = [&](const Line& other) { return other.rank == message.rank; };
  if (!known || std::any_of(lines.begin(), lines.end(), has_it)) {
    line.socket.close();
    return false;
  }
  line.rank = message.rank;
  line.socket.send(message);
  return true;
}

std::optional<Verdict> PulseLink::State::handle(Line& line, const PulseMessage& message) {
  if (line.rank < 0) {
    greet(line, message);
    return std::nullopt;
  }
  line.heard = Clock::now();
  switch (message.kind) {
    case PulseMessage::kPulse:
      line.pulse = Pulse{message.calls, message.silent_seconds, std::string(message.text_view())};
      return std::nullopt;
    case PulseMessage::kFarewell: line.left = true; return std::nullopt;
    case PulseMessage::kVerdict: {
      const Verdict verdict{message.rank, std::string(message.text_view())};
      if (hub()) send_all(message, &line);
      return verdict;
    }
    default: return std::nullopt;
  }
}

std::optional<Verdict> PulseLink::State::receive(Line& line) {
  PulseMessage message;
  while (line.socket.open() && line.socket.receive(message)) {
    if (auto verdict = handle(line, message)) return verdict;
  }
  return std::nullopt;
}

std::vector<std::optional<Pulse>> PulseLink::State::pulses(const Pulse& own) const {
  std::vector<std::optional<Pulse>> all(names.size());
  std::fill(all.begin(), all.end(), own);  // nothing is held against a rank that never connected
  const auto now = Clock::now();
  for (const Line& line : lines) {
    if (line.rank < 0) continue;
    auto& pulse = all[static_cast<std::size_t>(line.rank)];
    pulse = now - line.heard < stale ? line.pulse : std::nullopt;
  }
  return all;
}

// Rank 0 knows all and judges; the others ask it by their pulse, and speak for themselves when it
// keeps silent.
std::optional<Verdict> PulseLink::State::watch_silence(const Pulse& own) {
  const auto too_silent = [&](const Pulse& pulse) {
    return pulse.silent_seconds > timeout_seconds;
  };
  const bool here = too_silent(own);
  if (hub()) {
    const auto there = [&](const Line& line) { return line.pulse && too_silent(*line.pulse); };
    if (!here && std::none_of(lines.begin(), lines.end(), there)) return std::nullopt;
    return judge_silence(names, pulses(own), timeout_seconds);
  }
  if (!here) {
    silent_since = {};
    return std::nullopt;
  }
  if (!problem.empty()) return silence_alone(timeout_seconds);
  const auto now = Clock::now();
  if (silent_since == Clock::time_point{}) {
    silent_since = now;
    send_all(pulse_message(rank, own));
  }
  if (now - silent_since < kVerdictLimit) return std::nullopt;
  std::vector<std::optional<Pulse>> known(names.size(), own);
  known[0].reset();
  return judge_silence(names, known, timeout_seconds);
}

void PulseLink::State::send_all(const PulseMessage& message, const Line* but) {
  for (Line& line : lines) {
    if (&line != but && line.rank >= 0 && line.socket.open()) line.socket.send(message);
  }
}

std::optional<Verdict> PulseLink::serve(const Pulse& own) {
  State& s = *state_;
  if (s.listener.open()) s.accept_lines();
  for (Line& line : s.lines) {
    if (auto verdict = s.receive(line)) return verdict;
  }
  const auto now = Clock::now();
  for (Line& line : s.lines) {
    if (line.rank < 0 || !line.socket.open() || now < line.next_pulse) continue;
    line.next_pulse = now + (now - line.heard < kStale ? Clock::duration(kPulseInterval)
                                                       : Clock::duration(kStaleInterval));
    line.socket.send(pulse_message(s.rank, own));
  }
  return s.watch_silence(own);
}

std::optional<Verdict> PulseLink::lost() const {
  for (const Line& line : state_->lines) {
    if (line.rank < 0 || line.left || line.socket.open()) continue;
    const std::string name = state_->names[static_cast<std::size_t>(line.rank)].text();
    const bool cut = line.socket.cut_off();
    return Verdict{line.rank, name + (cut ? " cannot be reached; its host or the network is down"
                                          : " is gone")};
  }
  return std::nullopt;
}

void PulseLink::tell(const Verdict& verdict) {
  PulseMessage message{.kind = PulseMessage::kVerdict, .rank = verdict.rank};
  message.set_text(verdict.cause);
  state_->send_all(message);
}

void PulseLink::farewell() {
  state_->send_all({.kind = PulseMessage::kFarewell, .rank = state_->rank});
}

}  // namespace lockstep
