// Stream, Event and PinnedBuffer: RAII over the Device primitives.
#include "device/stream.h"

#include "device/device.h"

namespace lockstep {

Stream::Stream(Device& device, const char* name, bool high_priority)
    : device_(&device), native_(device.create_stream(name, high_priority)) {}

Stream::~Stream() {
  if (native_ != nullptr) device_->destroy_stream(native_);
}

const KernelTable& Stream::kernels() const { return device_->kernels(); }

KernelContext& Stream::context() const { return device_->context(); }

void Stream::synchronize() { device_->synchronize_stream(native_); }

void Stream::copy(void* dst, const void* src, std::size_t bytes) {
  if (bytes != 0) device_->copy(dst, src, bytes, native_);
}

void Stream::zero(void* dst, std::size_t bytes) {
  if (bytes != 0) device_->zero(dst, bytes, native_);
}

Event::Event(Device& device, bool timed) : device_(&device), native_(device.create_event(timed)) {}

Event::~Event() {
  if (native_ != nullptr) device_->destroy_event(native_);
}

void Event::record(Stream& stream) { device_->record_event(native_, stream.native()); }
void Event::wait_on(Stream& stream) { device_->wait_event(native_, stream.native()); }
bool Event::done() const { return device_->event_done(native_); }
void Event::synchronize() { device_->synchronize_event(native_); }

double Event::elapsed_ms(const Event& begin, const Event& end) {
  return begin.device_->elapsed_ms(begin.native_, end.native_);
}

PinnedBuffer::PinnedBuffer(Device& device, std::size_t bytes)
    : device_(&device), data_(device.allocate_pinned(bytes)), bytes_(bytes) {}

PinnedBuffer::~PinnedBuffer() {
  if (data_ != nullptr) device_->release_pinned(data_);
}

PinnedBuffer::PinnedBuffer(PinnedBuffer&& other) noexcept
    : device_(other.device_),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

}  // namespace lockstep
