// PulseLink: the watchdogs of all ranks keep in touch over sockets of their own, a star around rank
// 0's, because MPI and NCCL may be what hangs. A connection that closes is a process that died, on
// any host; one on which nothing is acknowledged any more is a host that was cut off; and what the
// ranks say of themselves tells who keeps whom waiting when nothing moves.
#pragma once

#include "comm/communicator.h"

#include <poll.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace lockstep {

// A process of the job, as messages name it.
struct PeerName {
  int rank = 0;
  std::int64_t pid = 0;
  std::string host;
  std::string text() const { return fmt::format("rank {} (pid {} on {})", rank, pid, host); }
};

// Why the job must end, the same on every rank that is told.
struct Verdict {
  int rank = -1;  // who is gone or hangs; -1: nobody in particular
  std::string cause;
};

// What a rank says of itself about once a second.
struct Pulse {
  std::uint64_t calls = 0;    // collectives entered
  double silent_seconds = 0;  // since the main thread last moved
  std::string position;       // "step 12, train"; cut at 100 bytes
};

// The verdict on ranks of which one has been silent for longer than `timeout_seconds`. A pulse that
// is absent is a rank that does not answer.
Verdict judge_silence(const std::vector<PeerName>& names,
                      const std::vector<std::optional<Pulse>>& pulses, double timeout_seconds);

// The same of a rank that knows nothing of the others.
Verdict silence_alone(double timeout_seconds);

class PulseLink {
 public:
  // Collective: ranks learn where rank 0 listens and connect. Rank 0 answers them in serve(), so
  // its thread must call that soon. `names` is by rank.
  PulseLink(World& world, std::vector<PeerName> names, double timeout_seconds);
  ~PulseLink();
  PulseLink(const PulseLink&) = delete;
  PulseLink& operator=(const PulseLink&) = delete;

  // Why this rank has no connection, or "": then only its transport's deadline covers it.
  const std::string& problem() const;

  // The rest is for one thread. Descriptors to poll before serve().
  void add_to(std::vector<pollfd>& fds) const;
  // Sends this rank's pulse when it is due, receives what others sent; never blocks. A verdict ends
  // the job: somebody's that was told here, or rank 0's own on ranks that keep silent.
  std::optional<Verdict> serve(const Pulse& own);
  // A rank whose connection broke without a farewell, if any.
  std::optional<Verdict> lost() const;
  // Lets every rank know the verdict, as far as they can be reached.
  void tell(const Verdict& verdict);
  // From here on this rank may leave without being missed.
  void farewell();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lockstep
