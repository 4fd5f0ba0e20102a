// Another process that holds something until it is killed: locks and directories are between
// processes, and what a killed one leaves is half of their contract.
#pragma once

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace lockstep {

class HoldingChild {
 public:
  // `take` makes what the child holds; the constructor returns once it has it.
  template <typename Take>
  explicit HoldingChild(const Take& take) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      const auto held = take();
      if (::write(ends[1], "x", 1) == 1) ::pause();
      ::_exit(held == nullptr);
    }
    ::close(ends[1]);
    char byte = 0;
    EXPECT_EQ(::read(ends[0], &byte, 1), 1) << "the child did not get it";
    ::close(ends[0]);
  }
  ~HoldingChild() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  HoldingChild(const HoldingChild&) = delete;
  HoldingChild& operator=(const HoldingChild&) = delete;

 private:
  pid_t pid_ = -1;
};

}  // namespace lockstep
