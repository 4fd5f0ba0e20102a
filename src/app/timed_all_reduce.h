// Times all-reduces between the ranks of a session, for `doctor` and `bench allreduce`.
#pragma once

#include "app/session.h"

#include <cstdint>
#include <vector>

namespace lockstep {

struct AllReduceTiming {
  std::int64_t bytes = 0;
  double ms = 0.0;      // median over the rounds
  double min_ms = 0.0;  // fastest and slowest round
  double max_ms = 0.0;
  double gigabytes_per_second = 0.0;      // bytes / ms
  double bus_gigabytes_per_second = 0.0;  // times 2 (n - 1) / n: what a link carries in a ring
};

// fp32 sums of zeros on the session's device, `rounds` rounds after one that is not counted, each
// begun together. Collective. Throws UserError(kConfig) when the buffer does not fit.
AllReduceTiming time_all_reduce(Session& session, std::int64_t bytes, int rounds);

}  // namespace lockstep
