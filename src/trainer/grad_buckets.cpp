// Buckets close as soon as enough final gradients are pending.
#include "trainer/grad_buckets.h"

#include <algorithm>
#include <chrono>

namespace lockstep {

GradBuckets::GradBuckets(const Tensor& grads, std::int64_t bucket_bytes, bool overlap,
                         Communicator& communicator, Device& device)
    : grads_(grads),
      bucket_elements_(std::max<std::int64_t>(
          1, bucket_bytes / static_cast<std::int64_t>(size_of(grads.dtype)))),
      overlap_(overlap),
      communicator_(communicator),
      stream_(device, "gradient reduction", /*high_priority=*/true),
      ready_(device) {
  for (std::size_t i = 0; i < kTimings; ++i) {
    timings_.push_back({Event(device, /*timed=*/true), Event(device, /*timed=*/true)});
  }
}

void GradBuckets::add(std::int64_t begin, std::int64_t end, Stream& compute) {
  CHECK(begin == end_ && end > begin, "range {}..{} after {}", begin, end, end_);
  end_ = end;
  if (overlap_ && end_ - begin_ >= bucket_elements_) reduce_pending(compute);
}

void GradBuckets::reduce_pending(Stream& compute) {
  if (communicator_.size() > 1) {
    const auto began = std::chrono::steady_clock::now();
    ready_.record(compute);
    ready_.wait_on(stream_);
    // Cut at the bucket size, so that memory staged by a transport stays bounded.
    for (std::int64_t begin = begin_; begin < end_; begin += bucket_elements_) {
      const std::int64_t count = std::min(bucket_elements_, end_ - begin);
      communicator_.all_reduce(TypedSpan(grads_).slice(begin, count), ReduceOp::kSum, stream_);
    }
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - began;
    if (!communicator_.asynchronous()) timings_[finalized_ % kTimings].blocked_ms += took.count();
  }
  begin_ = end_;
}

void GradBuckets::finalize(Stream& compute) {
  CHECK(end_ == grads_.count(), "gradients up to {} of {} were added", end_, grads_.count());
  Timing& timing = timings_[finalized_ % kTimings];
  timing.backward_end.record(compute);
  if (end_ > begin_) reduce_pending(compute);
  timing.reduced.record(stream_);
  timing.reduced.wait_on(compute);
  begin_ = end_ = 0;
  ++finalized_;
  timings_[finalized_ % kTimings].blocked_ms = 0.0;
}

double GradBuckets::exposed_ms() {
  CHECK(timed_ < finalized_ && finalized_ - timed_ <= kTimings);
  Timing& timing = timings_[timed_++ % kTimings];
  if (!communicator_.asynchronous()) return timing.blocked_ms;
  timing.backward_end.synchronize();
  timing.reduced.synchronize();
  return std::max(0.0, Event::elapsed_ms(timing.backward_end, timing.reduced));
}

}  // namespace lockstep
