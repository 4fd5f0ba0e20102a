// Device: one CPU or one GPU, the memory it hands out and the kernels that run on it.
// The implementations are cpu.cpp and cuda.cpp (or cuda_absent.cpp); nothing else knows them.
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
  std::string name;         // "NVIDIA H100 80GB HBM3", or the CPU's model name
  std::string uuid;         // empty on the CPU
  std::size_t memory = 0;   // bytes in all
  double peak_flops = 0.0;  // dense 16-bit FLOP/s as the vendor states; 0 if not known
  double peak_flops_fp32 = 0.0;
  double peak(DType compute) const { return compute == DType::kF32 ? peak_flops_fp32 : peak_flops; }
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

// The CPU. `threads` sizes the OpenMP pool of this process (>= 1). Throws UserError(kConfig) when
// the processor lacks an instruction set that the kernels were compiled for.
// `make_context` is the kernel table's create_context; it runs once the device is current.
using ContextFactory = std::unique_ptr<KernelContext> (&)();
std::unique_ptr<Device> open_cpu_device(const KernelTable& kernels, ContextFactory make_context,
                                        int threads);

// GPU number `ordinal` among those visible. Throws UserError(kConfig) when this build or machine
// has none, naming what is missing.
std::unique_ptr<Device> open_cuda_device(const KernelTable& kernels, ContextFactory make_context,
                                         int ordinal);
int cuda_device_count();                   // 0 without CUDA in the build, a driver or a device
DeviceInfo cuda_device_info(int ordinal);  // without opening it
std::string cuda_status();                 // one line: versions, or why CUDA cannot be used

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
