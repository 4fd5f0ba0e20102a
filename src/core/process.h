// This process among the others of its host: the host's name, the space in which its process id
// means something, and threads that leave the signals to the main thread.
#pragma once

#include <csignal>
#include <string>

namespace lockstep {

std::string host_name();  // "unknown" where the system does not tell

// Boot and process-id namespace: two processes with the same answer see each other under their
// process ids. "" where /proc does not tell.
std::string process_space();

// Blocks all signals while it lives: threads started meanwhile leave them to the main thread, whose
// handlers and sleeps expect them.
class SignalsBlocked {
 public:
  SignalsBlocked();
  ~SignalsBlocked();
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace lockstep
