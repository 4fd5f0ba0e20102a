// Stream and Event: order and time on one device, as move-only owners.
// CPU streams run everything inline, so CPU events are always complete; code above this layer is
// the same for both. Nothing here throws from a destructor.
#pragma once

#include "core/tensor.h"

#include <cstddef>
#include <utility>

namespace lockstep {

class Device;
struct KernelTable;

// What a kernel backend keeps per device (library handles, chosen algorithms); defined there.
struct KernelContext {
  virtual ~KernelContext() = default;
};

// An in-order queue of work. Every op takes the stream it is enqueued on.
class Stream {
 public:
  Stream(Device& device, const char* name, bool high_priority = false);
  ~Stream();
  Stream(Stream&& other) noexcept
      : device_(other.device_), native_(std::exchange(other.native_, nullptr)) {}
  Stream& operator=(Stream&&) = delete;

  Device& device() const { return *device_; }
  const KernelTable& kernels() const;
  KernelContext& context() const;
  void* native() const { return native_; }  // cudaStream_t, or null on the CPU

  // Blocks the host until everything enqueued so far is done; throws on a device fault.
  void synchronize();
  // Copies `bytes` between any two of {this device, pinned host, host}. Asynchronous on CUDA when
  // the host side is pinned; then neither buffer may be touched until the stream has passed.
  void copy(void* dst, const void* src, std::size_t bytes);
  void zero(void* dst, std::size_t bytes);

 private:
  Device* device_;
  void* native_ = nullptr;
};

// A point in a stream's order.
class Event {
 public:
  explicit Event(Device& device, bool timed = false);
  ~Event();
  Event(Event&& other) noexcept
      : device_(other.device_), native_(std::exchange(other.native_, nullptr)) {}
  Event& operator=(Event&&) = delete;

  void record(Stream& stream);
  void wait_on(Stream& stream);  // the stream's later work waits for the recorded point
  bool done() const;             // never blocks
  void synchronize();            // blocks the host
  // Milliseconds between two recorded, completed timed events (CPU: host clock at record()).
  static double elapsed_ms(const Event& begin, const Event& end);

  void* native() const { return native_; }

 private:
  Device* device_;
  void* native_ = nullptr;
};

}  // namespace lockstep
