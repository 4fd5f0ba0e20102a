// StepClock: wall time of steps as the metrics report it, means since the last row, and the ETA.
#pragma once

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

  // Starts counting at `step`; pauses (evaluation, saves) are left out by calling it again.
  void start(std::int64_t step, double data_wait_ms) {
    began_ = last_ = Clock::now();
    first_step_ = step;
    first_wait_ms_ = data_wait_ms;
    exposed_ms_ = 0.0;
  }
  // A step's report is there.
  void step_done(double exposed_ms) {
    exposed_ms_ += exposed_ms;
    const Clock::time_point now = Clock::now();
    last_step_ms_ = std::chrono::duration<double, std::milli>(now - last_).count();
    last_ = now;
  }

  // Means over the steps since start(); then counts on from `step`.
  Means lap(std::int64_t step, double data_wait_ms) {
    const double ms = std::chrono::duration<double, std::milli>(Clock::now() - began_).count();
    const double steps = step > first_step_ ? static_cast<double>(step - first_step_) : 1.0;
    const Means means{ms / steps, (data_wait_ms - first_wait_ms_) / steps, exposed_ms_ / steps};
    start(step, data_wait_ms);
    return means;
  }
  double last_step_ms() const { return last_step_ms_; }
  double seconds_alive() const {
    return std::chrono::duration<double>(Clock::now() - created_).count();
  }

 private:
  Clock::time_point created_ = Clock::now();
  Clock::time_point began_ = Clock::now();
  Clock::time_point last_ = Clock::now();
  std::int64_t first_step_ = 0;
  double first_wait_ms_ = 0.0;
  double exposed_ms_ = 0.0;
  double last_step_ms_ = 0.0;
};

}  // namespace lockstep
