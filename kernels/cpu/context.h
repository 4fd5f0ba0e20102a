// What the CPU backend keeps per device: one working buffer per OpenMP thread, grown to the largest
// size asked for and reused, so that a training step allocates nothing after the first.
#pragma once

#include "device/stream.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

namespace lockstep::cpu {

// A 64-byte aligned array of floats.
class FloatBuffer {
 public:
  // The contents are lost when it grows.
  float* reserve(std::int64_t count) {
    if (count > capacity_) {
      const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
      data_.reset(static_cast<float*>(::operator new(bytes, kAlignment)));
      capacity_ = count;
    }
    return data_.get();
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Deleter {
    void operator()(float* data) const { ::operator delete(data, kAlignment); }
  };
  std::unique_ptr<float, Deleter> data_;
  std::int64_t capacity_ = 0;
};

class CpuContext : public KernelContext {
 public:
  // Before a parallel region: gives every thread at least `floats` elements.
  void reserve_per_thread(std::int64_t floats);
  // Inside it: this thread's buffer.
  float* thread_buffer();
  // One double per work item of grad_norm.
  double* item_sums(std::int64_t count);

 private:
  std::vector<FloatBuffer> buffers_;
  std::vector<double> item_sums_;
};

// The CPU backend's own context of a stream on the CPU.
inline CpuContext& context_of(Stream& stream) { return static_cast<CpuContext&>(stream.context()); }

}  // namespace lockstep::cpu
