// The handlers and their flag.
#include "app/signals.h"

#include "core/error.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <initializer_list>

#include <unistd.h>

namespace lockstep {
namespace {

constexpr std::initializer_list<int> kStopSignals = {SIGTERM, SIGUSR1, SIGUSR2, SIGINT, SIGHUP};

// The project's only mutable globals: a handler has no argument through which it could reach
// anything else, and sig_atomic_t and lock-free atomics are what the standard lets it use.
volatile std::sig_atomic_t stop_signal = 0;
volatile std::sig_atomic_t interrupted = 0;
std::atomic<const char*> stop_announcement{nullptr};
std::atomic<const char*> term_announcement{nullptr};
static_assert(std::atomic<const char*>::is_always_lock_free);

extern "C" void on_stop_signal(int signal) {
  if (signal == SIGINT) {
    if (interrupted != 0) _exit(static_cast<int>(ExitCode::kInterrupted));
    interrupted = 1;
  }
  if (stop_signal != 0) return;
  stop_signal = signal;
  const char* line = signal == SIGTERM ? term_announcement : stop_announcement;
  if (line == nullptr) return;
  const int error = errno;
  if (write(STDERR_FILENO, line, std::strlen(line)) < 0) errno = error;
}

bool is_ignored(int signal) {
  struct sigaction action {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

void set_action(int signal, void (*handler)(int)) {
  if (signal == SIGHUP && is_ignored(signal)) return;
  struct sigaction action {};
  action.sa_handler = handler;
  // Interrupted system calls go on: neither MPI nor the libraries below expect EINTR.
  action.sa_flags = SA_RESTART;
  // While one is handled the others wait, so that two INTs in a row are counted as two.
  sigemptyset(&action.sa_mask);
  for (const int other : kStopSignals) sigaddset(&action.sa_mask, other);
  CHECK(sigaction(signal, &action, nullptr) == 0, "signal {}", signal);
}

void set_mask(int how) {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : kStopSignals) sigaddset(&signals, signal);
  CHECK(sigprocmask(how, &signals, nullptr) == 0);
}

}  // namespace

void hold_signals() { set_mask(SIG_BLOCK); }

void install_signal_handlers() {
  for (const int signal : kStopSignals) set_action(signal, on_stop_signal);
  set_action(SIGPIPE, SIG_IGN);
  set_mask(SIG_UNBLOCK);
}

void restore_default_signals() {
  for (const int signal : kStopSignals) set_action(signal, SIG_DFL);
  if (stop_signal != 0) raise(stop_signal);
}

void announce_stop(const char* line, const char* on_term) {
  stop_announcement = line;
  term_announcement = on_term;
}

int stop_requested() { return stop_signal; }

const char* signal_name(int signal) {
  switch (signal) {
    case SIGTERM: return "SIGTERM";
    case SIGUSR1: return "SIGUSR1";
    case SIGUSR2: return "SIGUSR2";
    case SIGINT: return "SIGINT";
    case SIGHUP: return "SIGHUP";
    default: return "a signal";
  }
}

}  // namespace lockstep
