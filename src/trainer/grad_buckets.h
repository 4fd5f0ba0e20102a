// GradBuckets: reduces the flat gradient over the ranks, bucket by bucket, while backward still
// runs. add() is called as ranges become final, finalize() after backward; then the compute stream
// sees the reduced gradient.
#pragma once

#include "comm/communicator.h"
#include "device/device.h"

#include <cstdint>
#include <vector>

namespace lockstep {

class GradBuckets {
 public:
  // Reduces in place over `grads` (flat fp32). Without `overlap` everything is reduced in
  // finalize().
  GradBuckets(const Tensor& grads, std::int64_t bucket_bytes, bool overlap,
              Communicator& communicator, Device& device);

  // [begin, end) is final on `compute`; ranges come in ascending order without gaps.
  void add(std::int64_t begin, std::int64_t end, Stream& compute);
  // Everything was added; later work on `compute` waits for all reductions.
  void finalize(Stream& compute);

  // Milliseconds that reductions kept the compute stream waiting, of the oldest finalized step not
  // asked for yet (at most two): from the end of backward to the end of the last reduction, or the
  // whole time of a transport that blocks the host. Blocks until that step is there.
  double exposed_ms();

 private:
  void reduce_pending(Stream& compute);

  Tensor grads_;
  std::int64_t bucket_elements_;
  bool overlap_;
  Communicator& communicator_;
  Stream stream_;
  Event ready_;  // the pending range is final
  struct Timing {
    Event backward_end, reduced;  // timed
    double blocked_ms = 0.0;      // host time inside a blocking transport
  };
  static constexpr std::size_t kTimings = 2;
  std::vector<Timing> timings_;  // a ring over steps
  std::size_t finalized_ = 0;
  std::size_t timed_ = 0;
  std::int64_t begin_ = 0;  // of the pending range
  std::int64_t end_ = 0;
};

}  // namespace lockstep
