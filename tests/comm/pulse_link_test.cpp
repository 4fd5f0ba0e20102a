// Who is blamed when nothing moves. The link itself is tested with the watchdog, between processes.
#include "comm/pulse_link.h"

#include "comm/pulse_socket.h"

#include <gtest/gtest.h>
#include <poll.h>

#include <thread>

namespace lockstep {
namespace {

std::vector<PeerName> names(int ranks) {
  std::vector<PeerName> all;
  for (int rank = 0; rank < ranks; ++rank) {
    all.push_back({.rank = rank, .pid = 100 + rank, .host = rank < 2 ? "n1" : "n2"});
  }
  return all;
}

std::optional<Pulse> pulse(std::uint64_t calls, const std::string& position = "step 7, train") {
  return Pulse{.calls = calls, .silent_seconds = 61, .position = position};
}

TEST(JudgeSilence, TheRankThatIsBehindKeepsTheOthersWaiting) {
  const Verdict verdict = judge_silence(
      names(4), {pulse(12), pulse(12), pulse(11, "step 7, checkpoint"), pulse(12)}, 60);
  EXPECT_EQ(verdict.rank, 2);
  EXPECT_EQ(verdict.cause,
            "no progress for 60 s (comm.timeout_seconds): rank 2 (pid 102 on n2) hangs, at step 7, "
            "checkpoint; the others wait for it");
}

TEST(JudgeSilence, ARankThatDoesNotAnswerIsNamedFirst) {
  const Verdict verdict = judge_silence(names(3), {pulse(12), std::nullopt, pulse(11)}, 60);
  EXPECT_EQ(verdict.rank, 1);
  EXPECT_NE(verdict.cause.find("rank 1 (pid 101 on n1) does not answer"), std::string::npos)
      << verdict.cause;
}

TEST(JudgeSilence, NobodyIsBlamedWhereAllWaitInTheSameCollective) {
  const Verdict verdict = judge_silence(names(2), {pulse(12), pulse(12)}, 60);
  EXPECT_EQ(verdict.rank, -1);
  EXPECT_NE(verdict.cause.find("same collective"), std::string::npos) << verdict.cause;
}

class PulseSockets : public testing::Test {
 protected:
  // Both ends of a connection, greeted.
  void open() {
    std::string problem;
    PulseSocket listener = PulseSocket::listen(problem);
    ASSERT_EQ(problem, "");
    PulseMessage hello{.kind = PulseMessage::kHello, .rank = 1};
    hello.set_text("token");
    std::thread server([&] {
      pollfd entry{listener.get(), POLLIN, 0};
      poll(&entry, 1, 10000);
      here_ = listener.accept();
      PulseMessage message;
      ASSERT_TRUE(wait_for(here_, message));
      here_.send(message);
    });
    there_ = PulseSocket::connect("192.0.2.1 x " + own_addresses(listener.port()), hello, problem);
    server.join();
    EXPECT_EQ(problem, "");
  }
  // False if the connection closed first.
  static bool wait_for(PulseSocket& socket, PulseMessage& message) {
    while (socket.open()) {
      if (socket.receive(message)) return true;
      if (!socket.open()) break;
      pollfd entry{socket.get(), POLLIN, 0};
      if (poll(&entry, 1, 10000) <= 0) return false;
    }
    return false;
  }
  PulseSocket here_, there_;
};

TEST_F(PulseSockets, MessagesArriveWhole) {
  open();
  for (std::uint64_t i = 0; i < 100; ++i) {
    PulseMessage message{.kind = PulseMessage::kPulse, .rank = 1, .calls = i};
    message.set_text(std::string(1000, 'x'));
    there_.send(message);
  }
  for (std::uint64_t i = 0; i < 100; ++i) {
    PulseMessage message;
    ASSERT_TRUE(wait_for(here_, message));
    EXPECT_EQ(message.calls, i);
    EXPECT_EQ(message.text_view(), std::string(sizeof(message.text) - 1, 'x'));
  }
}

TEST_F(PulseSockets, TheOtherEndsDeathClosesAndIsNoCutLine) {
  open();
  there_.close();
  PulseMessage message;
  EXPECT_FALSE(wait_for(here_, message));
  EXPECT_FALSE(here_.open());
  EXPECT_FALSE(here_.cut_off());
}

TEST(PulseSocket, WhereNobodyListensTheProblemNamesTheAddress) {
  std::string problem;
  const PulseSocket socket = PulseSocket::connect("127.0.0.1 1", {}, problem);
  EXPECT_FALSE(socket.open());
  EXPECT_NE(problem.find("127.0.0.1 port 1: "), std::string::npos) << problem;
}

}  // namespace
}  // namespace lockstep
