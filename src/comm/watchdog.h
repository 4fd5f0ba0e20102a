// Watchdog: a thread per rank that notices what the main thread cannot: a peer process on any host
// that died or was cut off, and main threads that make no progress, and which of them keeps the
// others waiting. All ranks record the same cause and leave.
#pragma once

#include "comm/communicator.h"
#include "comm/pulse_link.h"

#include <atomic>
#include <functional>
#include <memory>
#include <string>

namespace lockstep {

struct WatchdogSettings {
  double timeout_seconds = 600.0;  // of silence of the main thread
  // Called at most once, on a thread of its own, with one line of cause ("rank 1 (pid 4711 on
  // node7) is gone") and whom it blames (rank -1: nobody); it records the failure and must not
  // return to training: when it is done, or its time is over, the watchdog ends the process with
  // _exit(kPeer).
  std::function<void(const std::string& cause, const PeerName& who)> on_failure;
  double record_seconds = 5.0;                 // for on_failure: the disk may be what hangs
  const Communicator* communicator = nullptr;  // whose calls count, beside the world's
  std::function<std::string()> position;       // "step 12, train"; asked from the thread
};

class Watchdog {
 public:
  // Collective; the world outlives it.
  Watchdog(World& world, WatchdogSettings settings);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // The main thread is alive: call once per step, batch of evaluation or file written.
  void progress();
  // Why ranks cannot keep in touch, or "": then peers on other hosts are only covered by the
  // transport's deadline. The same on every rank.
  const std::string& problem() const { return problem_; }
  // Peers may now leave: call after the last collective and before the final barrier.
  void disarm();

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::string problem_;
};

}  // namespace lockstep
