// Steps take what lies between their ends on the stream, whenever the host reads them.
#include "trainer/step_clock.h"

#include "support/support.h"

#include <thread>

namespace lockstep {
namespace {

void work(int milliseconds) {
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
}

double milliseconds_since(StepClock::Clock::time_point began) {
  return std::chrono::duration<double, std::milli>(StepClock::Clock::now() - began).count();
}

class StepClockTest : public ::testing::Test {
 protected:
  test::Machine machine_ = test::open_cpu();
  Stream stream_{*machine_.device, "test"};
  StepClock clock_{*machine_.device};
};

TEST_F(StepClockTest, ReadingLateChangesNothing) {
  const auto began = StepClock::Clock::now();
  clock_.start(0, 0.0, stream_);
  work(20);
  clock_.step_enqueued(stream_);
  work(60);
  clock_.step_enqueued(stream_);
  const double both = milliseconds_since(began);
  work(100);  // the host is busy with something else
  clock_.step_done(0.0);
  const double first = clock_.last_step_ms();
  clock_.step_done(0.0);
  const double second = clock_.last_step_ms();
  EXPECT_GE(first, 20.0);
  EXPECT_GE(second, 60.0);
  EXPECT_LE(first + second, both);
}

TEST_F(StepClockTest, RowsHoldMeansOfTheirStepsAlone) {
  clock_.start(10, 5.0, stream_);
  for (int step = 0; step < 2; ++step) {
    work(10);
    clock_.step_enqueued(stream_);
  }
  clock_.step_done(1.0);
  const double first = clock_.last_step_ms();
  clock_.step_done(2.0);
  const double second = clock_.last_step_ms();
  const StepClock::Means two = clock_.lap(12, 9.0);
  EXPECT_DOUBLE_EQ(two.step_ms, (first + second) / 2.0);
  EXPECT_DOUBLE_EQ(two.comm_exposed_ms, 1.5);
  EXPECT_DOUBLE_EQ(two.data_wait_ms, 2.0);

  clock_.step_enqueued(stream_);
  clock_.step_done(4.0);
  const StepClock::Means one = clock_.lap(13, 9.0);
  EXPECT_DOUBLE_EQ(one.step_ms, clock_.last_step_ms());
  EXPECT_DOUBLE_EQ(one.comm_exposed_ms, 4.0);
  EXPECT_DOUBLE_EQ(one.data_wait_ms, 0.0);
}

TEST_F(StepClockTest, PausesAreLeftOut) {
  clock_.start(0, 0.0, stream_);
  clock_.step_enqueued(stream_);
  clock_.step_done(0.0);
  work(50);
  const auto began = StepClock::Clock::now();
  clock_.start(1, 0.0, stream_);
  work(10);
  clock_.step_enqueued(stream_);
  const double whole = milliseconds_since(began);
  clock_.step_done(0.0);
  const StepClock::Means row = clock_.lap(2, 0.0);
  EXPECT_GE(row.step_ms, 10.0);
  EXPECT_LE(row.step_ms, whole);
}

TEST_F(StepClockTest, RefusesWhatItCannotHold) {
  clock_.start(0, 0.0, stream_);
  EXPECT_THROW(clock_.step_done(0.0), CheckError);
  clock_.step_enqueued(stream_);
  EXPECT_THROW(clock_.start(1, 0.0, stream_), CheckError);
  clock_.step_enqueued(stream_);
  EXPECT_THROW(clock_.step_enqueued(stream_), CheckError);
}

}  // namespace
}  // namespace lockstep
