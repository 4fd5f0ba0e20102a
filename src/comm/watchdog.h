// Watchdog: a thread per rank that notices what the main thread cannot: a peer process on this host
// that died, and a main thread that makes no progress. It records why and leaves the process.
#pragma once

#include "comm/communicator.h"

#include <atomic>
#include <functional>
#include <memory>
#include <string>

namespace lockstep {

class Watchdog {
 public:
  // Called at most once, on the watchdog's thread, with one line of cause ("rank 1 (pid 4711 on
  // node7) is gone"); it records the failure and must not return to training: the watchdog then
  // ends the process with _exit(kPeer).
  using OnFailure = std::function<void(const std::string& cause)>;

  // Collective: exchanges process ids. Peers on other hosts are left to the transport's deadline.
  Watchdog(World& world, double timeout_seconds, OnFailure on_failure);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // The main thread is alive: call once per step, batch of evaluation or file written.
  void progress();
  // Peers may now leave: call after the last collective and before the final barrier.
  void disarm();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace lockstep
