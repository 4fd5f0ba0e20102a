// What a process says of itself, and that threads started under SignalsBlocked get no signals.
#include "core/process.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

namespace lockstep {
namespace {

TEST(Process, HostAndSpaceAreThoseOfTheSystem) {
  EXPECT_FALSE(host_name().empty());
  EXPECT_EQ(host_name().find('\n'), std::string::npos);
  EXPECT_NE(process_space().find(" pid:["), std::string::npos) << process_space();
  EXPECT_EQ(process_space(), process_space());
}

TEST(Process, SignalsStayWithTheMainThread) {
  sigset_t inside, outside;
  {
    const SignalsBlocked during_start;
    std::thread([&] { pthread_sigmask(SIG_SETMASK, nullptr, &inside); }).join();
  }
  pthread_sigmask(SIG_SETMASK, nullptr, &outside);
  EXPECT_EQ(sigismember(&inside, SIGTERM), 1);
  EXPECT_EQ(sigismember(&outside, SIGTERM), 0);
}

}  // namespace
}  // namespace lockstep
