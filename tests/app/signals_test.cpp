// Signals, sent for real to child processes.
#include "app/signals.h"

#include <gtest/gtest.h>

#include <csignal>
#include <functional>
#include <vector>

#include <sys/wait.h>
#include <unistd.h>

namespace lockstep {
namespace {

// Runs `body` in a child process and returns its wait status.
int status_of(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

int after_signals(const std::vector<int>& signals) {
  return status_of([&] {
    install_signal_handlers();
    for (const int signal : signals) raise(signal);
    return stop_requested();
  });
}

TEST(Signals, NoneMeansNoRequest) { EXPECT_EQ(WEXITSTATUS(after_signals({})), 0); }

TEST(Signals, EachAsksToStopAndTheFirstIsKept) {
  for (const int signal : {SIGTERM, SIGUSR1, SIGUSR2, SIGINT}) {
    const int status = after_signals({signal, SIGTERM, SIGUSR1, SIGUSR2, SIGTERM});
    ASSERT_TRUE(WIFEXITED(status)) << signal_name(signal);
    EXPECT_EQ(WEXITSTATUS(status), signal);
  }
}

TEST(Signals, OneInterruptAmongOthersIsHarmless) {
  const int status = after_signals({SIGTERM, SIGINT, SIGUSR1, SIGTERM});
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), SIGTERM);
}

TEST(Signals, ASecondInterruptExitsAtOnce) {
  for (const std::vector<int>& signals :
       {std::vector<int>{SIGINT, SIGINT}, std::vector<int>{SIGINT, SIGTERM, SIGINT}}) {
    const int status = after_signals(signals);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 130);
  }
}

TEST(Signals, AClosedPipeIsAnErrorOfTheWrite) {
  const int status = status_of([] {
    install_signal_handlers();
    int ends[2];
    if (pipe(ends) != 0) return 2;
    close(ends[0]);
    return write(ends[1], "x", 1) == -1 && errno == EPIPE ? 0 : 1;
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(Signals, RestoredDefaultsEndTheProcess) {
  const int later = status_of([] {
    install_signal_handlers();
    restore_default_signals();
    raise(SIGTERM);
    return 0;
  });
  ASSERT_TRUE(WIFSIGNALED(later));
  EXPECT_EQ(WTERMSIG(later), SIGTERM);
  const int earlier = status_of([] {
    install_signal_handlers();
    raise(SIGINT);
    restore_default_signals();
    return 0;
  });
  ASSERT_TRUE(WIFSIGNALED(earlier));
  EXPECT_EQ(WTERMSIG(earlier), SIGINT);
}

}  // namespace
}  // namespace lockstep
