// MPI_Init waits for every rank of the job, silently and for ever. While a StartDeadline lives, a
// thread of it waits as well; at the deadline it reports and ends the process.
#pragma once

#include "app/launcher.h"

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace lockstep {

class StartDeadline {
 public:
  // At the deadline the process ends with the code that `report` returns, unless this object is
  // gone before.
  StartDeadline(double seconds, std::function<int()> report);
  ~StartDeadline();
  StartDeadline(const StartDeadline&) = delete;
  StartDeadline& operator=(const StartDeadline&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool started_ = false;
  std::thread thread_;
};

// Who waits on this host and who does not, from /proc: "ranks 0, 1 wait; rank 2 (pid 4711) is
// stopped". Of other hosts nothing can be known. "" on all waiting ranks of a host but the lowest,
// which speaks for them.
std::string describe_start(const Environment& environment);

}  // namespace lockstep
