// Signals, sent for real to child processes.
#include "app/signals.h"

#include <gtest/gtest.h>

#include <csignal>
#include <functional>
#include <string>
#include <utility>
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
  for (const int signal : {SIGTERM, SIGUSR1, SIGUSR2, SIGINT, SIGHUP}) {
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

// As `nohup lockstep ...` and `nohup lockstep prepare ... &` start the program.
TEST(Signals, AHangUpThatWasIgnoredAtTheStartStaysIgnored) {
  const int polled = status_of([] {
    std::signal(SIGHUP, SIG_IGN);
    install_signal_handlers();
    raise(SIGHUP);
    return stop_requested();
  });
  ASSERT_TRUE(WIFEXITED(polled));
  EXPECT_EQ(WEXITSTATUS(polled), 0);
  const int restored = status_of([] {
    std::signal(SIGHUP, SIG_IGN);
    install_signal_handlers();
    restore_default_signals();
    raise(SIGHUP);
    return 3;
  });
  ASSERT_TRUE(WIFEXITED(restored));
  EXPECT_EQ(WEXITSTATUS(restored), 3);
}

TEST(Signals, TheFirstRequestIsAnnouncedOnce) {
  for (const auto& [signals, wanted] : std::vector<std::pair<std::vector<int>, std::string>>{
           {{SIGINT, SIGTERM}, "stopping\n"}, {{SIGTERM, SIGUSR1}, "ending\n"}}) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    status_of([&] {
      dup2(ends[1], STDERR_FILENO);
      install_signal_handlers();
      announce_stop("stopping\n", "ending\n");
      for (const int signal : signals) raise(signal);
      return 0;
    });
    close(ends[1]);
    char text[64] = {};
    EXPECT_EQ(read(ends[0], text, sizeof(text) - 1), static_cast<ssize_t>(wanted.size()));
    EXPECT_EQ(text, wanted);
    close(ends[0]);
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
