// StepClock: how long steps take on the device, means since the last row, and the run's age.
// A device may work on one step while the host has enqueued the next and reads the one before, so
// steps are timed by events at their ends and not by when the host hears of them.
#pragma once

#include "core/error.h"
#include "device/stream.h"

#include <array>
#include <chrono>
#include <cstdint>

namespace lockstep {

class StepClock {
 public:
  using Clock = std::chrono::steady_clock;

  struct Means {
    double step_ms = 0.0;
    double data_wait_ms = 0.0;
    double comm_exposed_ms = 0.0;
  };

  explicit StepClock(Device& device)
      : ends_{Event(device, /*timed=*/true), Event(device, /*timed=*/true),
              Event(device, /*timed=*/true)} {}

  // Counts from here on, after `step`; what went before it on the stream (evaluation, saves) is
  // left out. Every enqueued step must have been read.
  void start(std::int64_t step, double data_wait_ms, Stream& stream) {
    CHECK(read_ == enqueued_, "{} steps were not read", enqueued_ - read_);
    end(enqueued_).record(stream);
    begin_row(step, data_wait_ms);
  }
  // All work of a step is on the stream. At most two steps may be enqueued and not read.
  void step_enqueued(Stream& stream) {
    CHECK(enqueued_ - read_ + 1 < static_cast<std::int64_t>(ends_.size()));
    end(++enqueued_).record(stream);
  }
  // Reads the oldest step; blocks until the device has done it.
  void step_done(double exposed_ms) {
    CHECK(read_ < enqueued_);
    const Event& begin = end(read_);
    Event& done = end(++read_);
    done.synchronize();
    last_step_ms_ = Event::elapsed_ms(begin, done);
    row_ms_ += last_step_ms_;
    exposed_ms_ += exposed_ms;
  }

  // Means over the steps read since the last row, the newest of which is `step`.
  Means lap(std::int64_t step, double data_wait_ms) {
    const double steps = step > first_step_ ? static_cast<double>(step - first_step_) : 1.0;
    const Means means{row_ms_ / steps, (data_wait_ms - first_wait_ms_) / steps,
                      exposed_ms_ / steps};
    begin_row(step, data_wait_ms);
    return means;
  }
  double last_step_ms() const { return last_step_ms_; }
  double seconds_alive() const {
    return std::chrono::duration<double>(Clock::now() - created_).count();
  }

 private:
  Event& end(std::int64_t step) { return ends_[static_cast<std::size_t>(step) % ends_.size()]; }
  void begin_row(std::int64_t step, double data_wait_ms) {
    first_step_ = step;
    first_wait_ms_ = data_wait_ms;
    row_ms_ = exposed_ms_ = 0.0;
  }

  Clock::time_point created_ = Clock::now();
  std::array<Event, 3> ends_;  // where the oldest unread step began, and the ends of two
  std::int64_t enqueued_ = 0;
  std::int64_t read_ = 0;
  std::int64_t first_step_ = 0;
  double first_wait_ms_ = 0.0;
  double row_ms_ = 0.0;
  double exposed_ms_ = 0.0;
  double last_step_ms_ = 0.0;
};

}  // namespace lockstep
