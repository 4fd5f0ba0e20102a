// Device: one CPU or one GPU, the memory it hands out and the kernels that run on it.
// Each backend in kernels/ implements it; kernels/backend.h lists and opens them.
#pragma once

#include "core/tensor.h"
#include "device/stream.h"

#include <cstddef>
#include <memory>
#include <string>

namespace lockstep {

// What a device can do, for start-up lines, `doctor` and `plan`.
struct DeviceInfo {
  DeviceKind kind = DeviceKind::kCpu;
  int ordinal = 0;
  std::string name;           // "NVIDIA H100 80GB HBM3", or the CPU's model name
  std::string uuid;           // empty on the CPU
  bool asynchronous = false;  // it computes beside the host, which only enqueues
  bool nccl = false;          // NCCL moves its memory
  std::size_t memory = 0;     // bytes in all
  double peak_flops = 0.0;    // dense 16-bit FLOP/s as the vendor states; 0 if not known
  double peak_flops_fp32 = 0.0;
  // TF32 products run at half the 16-bit rate on every card with tensor cores for them.
  double peak(DType compute, bool tf32) const {
    if (compute != DType::kF32) return peak_flops;
    return tf32 ? peak_flops / 2.0 : peak_flops_fp32;
  }
};

// Owns nothing that outlives it; every Stream, Event and allocation must be gone before it is.
class Device {
 public:
  Device(const KernelTable& kernels, std::unique_ptr<KernelContext> context)
      : kernels_(kernels), context_(std::move(context)) {}
  virtual ~Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const KernelTable& kernels() const { return kernels_; }
  KernelContext& context() const { return *context_; }
  virtual const DeviceInfo& info() const = 0;
  DeviceKind kind() const { return info().kind; }

  // 256-byte aligned, uninitialised. allocate() returns null when the memory is not there.
  virtual void* allocate(std::size_t bytes) = 0;
  virtual void release(void* data) noexcept = 0;
  // Host memory that the device can copy from and to asynchronously; throws UserError(kConfig).
  virtual void* allocate_pinned(std::size_t bytes) = 0;
  virtual void release_pinned(void* data) noexcept = 0;
  // Bytes the driver reports in use on this device now (CPU: the process's peak resident set).
  virtual std::size_t memory_used() const = 0;

  // The primitives behind Stream and Event.
  virtual void* create_stream(const char* name, bool high_priority) = 0;
  virtual void destroy_stream(void* stream) noexcept = 0;
  virtual void synchronize_stream(void* stream) = 0;
  virtual void copy(void* dst, const void* src, std::size_t bytes, void* stream) = 0;
  virtual void zero(void* dst, std::size_t bytes, void* stream) = 0;
  virtual void* create_event(bool timed) = 0;
  virtual void destroy_event(void* event) noexcept = 0;
  virtual void record_event(void* event, void* stream) = 0;
  virtual void wait_event(void* event, void* stream) = 0;
  virtual bool event_done(void* event) = 0;
  virtual void synchronize_event(void* event) = 0;
  virtual double elapsed_ms(void* begin, void* end) = 0;

 private:
  const KernelTable& kernels_;
  std::unique_ptr<KernelContext> context_;
};

// Host buffer that the device can copy from asynchronously; move-only.
class PinnedBuffer {
 public:
  PinnedBuffer(Device& device, std::size_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(PinnedBuffer&& other) noexcept;
  PinnedBuffer& operator=(PinnedBuffer&&) = delete;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  Device* device_;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace lockstep
