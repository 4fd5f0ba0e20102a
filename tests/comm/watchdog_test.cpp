// The watchdog in real processes: forked "ranks" over a socket, killed, stopped, silent, or leaving
// in good order. Each child reports through its exit code and one pipe.
#include "comm/watchdog.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace lockstep {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

void nap(int ms) { std::this_thread::sleep_for(milliseconds(ms)); }

// Two ranks over a socket pair; `elsewhere` makes each believe that the other's process ids mean
// nothing to it, as on another host.
class PairWorld final : public World {
 public:
  PairWorld(int rank, int socket, bool elsewhere = false) : socket_(socket), elsewhere_(elsewhere) {
    placement_ = {.rank = rank, .size = 2, .local_rank = rank, .local_size = 2, .host = "testhost"};
  }
  const Placement& placement() const override { return placement_; }
  void barrier() override { exchange("barrier"); }
  std::string broadcast(const std::string& text, int root) override {
    const std::string other = exchange(text);
    return root == rank() ? text : other;
  }
  std::vector<std::string> all_gather(const std::string& text) override {
    std::string other = exchange(text);
    if (elsewhere_ && other.find(" pid:[") != std::string::npos) other += " elsewhere";
    return rank() == 0 ? std::vector{text, other} : std::vector{other, text};
  }
  std::vector<std::int64_t> all_reduce(std::vector<std::int64_t> values, ReduceOp) override {
    return values;
  }
  // Blocks until the peer is gone.
  void wait_for_end_of_peer() {
    char byte;
    while (read(socket_, &byte, 1) > 0) continue;
  }

 private:
  std::string exchange(const std::string& text) {
    const std::string sent = "." + text;  // an empty message would look like the peer's end
    if (write(socket_, sent.data(), sent.size()) < 0) _exit(99);
    char buffer[8192];
    const ssize_t length = read(socket_, buffer, sizeof(buffer));
    if (length <= 0) _exit(98);
    return std::string(buffer + 1, static_cast<std::size_t>(length) - 1);
  }
  int socket_;
  bool elsewhere_;
  Placement placement_;
};

// A forked child that runs `body` and leaves with what it returns; what it writes to `report`
// comes back from read_report().
class Child {
 public:
  using Body = std::function<int(int report)>;
  explicit Child(const Body& body) {
    int ends[2];
    if (pipe(ends) != 0) throw std::runtime_error("pipe");
    pid_ = fork();
    if (pid_ == 0) {
      close(ends[0]);
      _exit(body(ends[1]));
    }
    close(ends[1]);
    report_ = ends[0];
  }
  ~Child() {
    if (!waited_) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(report_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  // The exit code, or 128 + signal.
  int wait() {
    int status = 0;
    waitpid(pid_, &status, 0);
    waited_ = true;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  void read_byte() {
    char byte = 0;
    EXPECT_EQ(read(report_, &byte, 1), 1);
  }
  std::string read_report() {
    std::string text;
    char buffer[256];
    for (ssize_t n; (n = read(report_, buffer, sizeof(buffer))) > 0;) {
      text.append(buffer, static_cast<std::size_t>(n));
    }
    return text;
  }

 private:
  pid_t pid_ = -1;
  int report_ = -1;
  bool waited_ = false;
};

void say(int report, const std::string& text) {
  if (write(report, text.data(), text.size()) < 0) _exit(97);
}

WatchdogSettings settings(double timeout_seconds, int report) {
  return {
      .timeout_seconds = timeout_seconds,
      .on_failure = [report](const std::string& cause, const PeerName&) { say(report, cause); }};
}

class CountingCommunicator final : public Communicator {
 public:
  explicit CountingCommunicator(std::uint64_t calls) : calls_(calls) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string_view name() const override { return "counting"; }
  void all_reduce(TypedSpan, ReduceOp, Stream&) override {}
  void reduce_scatter(TypedSpan, TypedSpan, ReduceOp, Stream&) override {}
  void all_gather(TypedSpan, TypedSpan, Stream&) override {}
  void broadcast(TypedSpan, int, Stream&) override {}
  void check_async_error() override {}
  std::uint64_t calls() const override { return calls_; }

 private:
  std::uint64_t calls_;
};

// A main thread that lives until it is killed.
[[noreturn]] void beat_forever(Watchdog& watchdog) {
  for (;;) {
    watchdog.progress();
    nap(20);
  }
}

class WatchdogPair : public testing::Test {
 protected:
  void SetUp() override { ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets_), 0); }
  void TearDown() override { close_both(); }
  // The parent's copies go once both children are forked, so that a child sees its peer's end.
  void close_both() {
    for (int& socket : sockets_) {
      if (socket >= 0) close(socket);
      socket = -1;
    }
  }
  // As rank `rank`: `body` is given the world and an armed watchdog.
  Child::Body as_rank(int rank, std::function<int(PairWorld&, Watchdog&, int report)> body) {
    return [this, rank, body = std::move(body)](int report) {
      close(sockets_[1 - rank]);
      PairWorld world(rank, sockets_[rank]);
      Watchdog watchdog(world, settings(60, report));
      return body(world, watchdog, report);
    };
  }
  int sockets_[2] = {-1, -1};
};

TEST_F(WatchdogPair, KilledPeerEndsTheOtherWith76AndItsName) {
  const auto body = [](PairWorld&, Watchdog& watchdog, int report) -> int {
    say(report, "r");
    beat_forever(watchdog);
  };
  Child survivor(as_rank(0, body));
  Child victim(as_rank(1, body));
  close_both();
  survivor.read_byte();
  victim.read_byte();
  const auto start = Clock::now();
  kill(victim.pid(), SIGKILL);
  EXPECT_EQ(survivor.wait(), 76);
  const auto took = Clock::now() - start;
  EXPECT_GE(took, milliseconds(150));  // the victim's own record would have come first
  EXPECT_LT(took, milliseconds(5000));
  EXPECT_EQ(survivor.read_report(),
            fmt::format("rank 1 (pid {} on testhost) is gone", victim.pid()));
}

// Only their connection tells, whichever of the two dies.
TEST_F(WatchdogPair, KilledPeerOnAnotherHostEndsTheOtherToo) {
  for (const int victim_rank : {1, 0}) {
    close_both();
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets_), 0);
    const auto body = [this](int rank) {
      return [this, rank](int report) -> int {
        close(sockets_[1 - rank]);
        PairWorld world(rank, sockets_[rank], /*elsewhere=*/true);
        Watchdog watchdog(world, settings(/*timeout_seconds=*/60, report));
        say(report, watchdog.problem().empty() ? "r" : "p");
        beat_forever(watchdog);
      };
    };
    Child survivor(body(1 - victim_rank));
    Child victim(body(victim_rank));
    close_both();
    survivor.read_byte();
    victim.read_byte();
    const auto start = Clock::now();
    kill(victim.pid(), SIGKILL);
    EXPECT_EQ(survivor.wait(), 76);
    EXPECT_LT(Clock::now() - start, milliseconds(10000));
    EXPECT_EQ(survivor.read_report(),
              fmt::format("rank {} (pid {} on testhost) is gone", victim_rank, victim.pid()));
  }
}

TEST_F(WatchdogPair, AHangIsBlamedOnTheRankThatTheOtherWaitsFor) {
  const auto body = [this](int rank) {
    return [this, rank](int report) -> int {
      close(sockets_[1 - rank]);
      PairWorld world(rank, sockets_[rank]);
      CountingCommunicator communicator(rank == 1 ? 4 : 5);  // rank 1 has not entered the fifth
      WatchdogSettings own = settings(/*timeout_seconds=*/1, report);
      own.communicator = &communicator;
      own.position = [] { return "step 4, train"; };
      Watchdog watchdog(world, std::move(own));
      nap(60000);
      return 0;
    };
  };
  Child waiting(body(0));
  Child hanging(body(1));
  close_both();
  EXPECT_EQ(waiting.wait(), 76);
  EXPECT_EQ(hanging.wait(), 76);
  const std::string cause = waiting.read_report();
  EXPECT_NE(cause.find(fmt::format("rank 1 (pid {} on testhost) hangs, at step 4, train; the "
                                   "others wait for it",
                                   hanging.pid())),
            std::string::npos)
      << cause;
  EXPECT_EQ(hanging.read_report(), cause);
}

TEST_F(WatchdogPair, PeerThatExitsBeforeDisarmIsAFailure) {
  Child survivor(
      as_rank(0, [](PairWorld&, Watchdog& watchdog, int) -> int { beat_forever(watchdog); }));
  Child quitter(as_rank(1, [](PairWorld&, Watchdog&, int) {
    nap(50);
    _exit(65);
    return 0;
  }));
  close_both();
  EXPECT_EQ(quitter.wait(), 65);
  EXPECT_EQ(survivor.wait(), 76);
}

TEST_F(WatchdogPair, AfterDisarmAndBarrierPeersLeaveInAnyOrder) {
  const auto leave = [](int stay_ms) {
    return [stay_ms](PairWorld& world, Watchdog& watchdog, int) {
      nap(30);
      watchdog.disarm();
      world.barrier();
      nap(stay_ms);
      return 0;
    };
  };
  Child first(as_rank(0, leave(0)));
  Child last(as_rank(1, leave(600)));
  close_both();
  EXPECT_EQ(first.wait(), 0);
  EXPECT_EQ(last.wait(), 0);
  EXPECT_EQ(last.read_report(), "");
}

TEST_F(WatchdogPair, MainThreadThatNoticesFirstKeepsItsOwnErrorCode) {
  Child survivor([this](int report) {
    close(sockets_[1]);
    PairWorld world(0, sockets_[0]);
    {
      Watchdog watchdog(world, settings(60, report));
      world.wait_for_end_of_peer();
    }
    nap(400);
    return 65;
  });
  Child victim(as_rank(1, [](PairWorld&, Watchdog&, int) {
    nap(50);
    return 1;
  }));
  close_both();
  EXPECT_EQ(survivor.wait(), 65);
  EXPECT_EQ(survivor.read_report(), "");
}

TEST_F(WatchdogPair, StoppedPeerIsNotGone) {
  Child survivor(as_rank(0, [](PairWorld& world, Watchdog& watchdog, int) {
    nap(500);
    watchdog.disarm();
    world.barrier();
    return 0;
  }));
  Child stopped(as_rank(1, [](PairWorld& world, Watchdog& watchdog, int report) {
    say(report, "r");
    nap(200);
    watchdog.disarm();
    world.barrier();
    return 0;
  }));
  close_both();
  stopped.read_byte();
  kill(stopped.pid(), SIGSTOP);
  nap(400);
  kill(stopped.pid(), SIGCONT);
  EXPECT_EQ(survivor.wait(), 0);
  EXPECT_EQ(stopped.wait(), 0);
}

TEST(WatchdogAlone, SilenceEndsWith76NamingTheSeconds) {
  Child child([](int report) {
    const auto world = make_self_world();
    Watchdog watchdog(*world, settings(0.2, report));
    nap(20000);
    return 0;
  });
  EXPECT_EQ(child.wait(), 76);
  const std::string cause = child.read_report();
  EXPECT_NE(cause.find("no progress for 0.2 s (comm.timeout_seconds)"), std::string::npos) << cause;
}

TEST(WatchdogAlone, BeatsKeepItQuiet) {
  Child child([](int report) {
    const auto world = make_self_world();
    Watchdog watchdog(*world, settings(0.8, report));
    for (int i = 0; i < 40; ++i) {
      watchdog.progress();
      nap(40);
    }
    return 0;
  });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(child.read_report(), "");
}

TEST(WatchdogAlone, DisarmedItIgnoresSilence) {
  Child child([](int report) {
    const auto world = make_self_world();
    Watchdog watchdog(*world, settings(0.2, report));
    watchdog.disarm();
    nap(500);
    return 0;
  });
  EXPECT_EQ(child.wait(), 0);
}

TEST(WatchdogAlone, TimeInWhichTheWholeProcessWasStoppedDoesNotCount) {
  Child child([](int report) {
    const auto world = make_self_world();
    Watchdog watchdog(*world, settings(1.5, report));
    say(report, "r");
    for (int i = 0; i < 20; ++i) {
      watchdog.progress();
      nap(20);
    }
    return 0;
  });
  child.read_byte();
  kill(child.pid(), SIGSTOP);
  nap(2000);
  kill(child.pid(), SIGCONT);
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(child.read_report(), "");
}

TEST(WatchdogAlone, RecorderThatThrowsStillEndsWith76) {
  Child child([](int) {
    std::freopen("/dev/null", "w", stderr);
    const auto world = make_self_world();
    Watchdog watchdog(
        *world, {.timeout_seconds = 0.1, .on_failure = [](const std::string&, const PeerName&) {
                   throw std::runtime_error("disk full");
                 }});
    nap(20000);
    return 0;
  });
  EXPECT_EQ(child.wait(), 76);
}

TEST(WatchdogAlone, RecorderThatBlocksStillEndsWith76) {
  const auto start = Clock::now();
  Child child([](int) {
    std::freopen("/dev/null", "w", stderr);
    const auto world = make_self_world();
    Watchdog watchdog(*world,
                      {.timeout_seconds = 0.1,
                       .on_failure = [](const std::string&, const PeerName&) { nap(20000); },
                       .record_seconds = 0.2});
    nap(20000);
    return 0;
  });
  EXPECT_EQ(child.wait(), 76);
  EXPECT_LT(Clock::now() - start, milliseconds(10000));
}

TEST(WatchdogAlone, SignalsAreLeftToTheMainThread) {
  Child child([](int report) {
    static volatile std::sig_atomic_t handled_by_main = 0;
    static pthread_t main_thread = pthread_self();
    std::signal(SIGUSR1, [](int) { handled_by_main = pthread_equal(pthread_self(), main_thread); });
    const auto world = make_self_world();
    Watchdog watchdog(*world, settings(60, report));
    kill(getpid(), SIGUSR1);
    nap(50);
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    return handled_by_main != 0 && sigismember(&blocked, SIGTERM) == 0 ? 0 : 1;
  });
  EXPECT_EQ(child.wait(), 0);
}

}  // namespace
}  // namespace lockstep
