// The ring: a slot is written again only when the device has read it.
#include "trainer/batch_upload.h"

#include <cstring>

namespace lockstep {
namespace {

constexpr int kSlots = 4;

}  // namespace

BatchUpload::BatchUpload(const DeviceBatch& buffers, Device& device)
    : buffers_(buffers), staging_(device, kSlots * 2 * buffers_.targets.bytes()) {
  CHECK(buffers_.tokens && buffers_.targets.dtype == DType::kI32,
        "the loader gives tokens and classes");
  for (int slot = 0; slot < kSlots; ++slot) staged_.emplace_back(device);
}

const DeviceBatch& BatchUpload::upload(const Batch& batch, Stream& stream) {
  const auto slot = static_cast<std::size_t>(uploads_++ % kSlots);
  if (uploads_ > kSlots) staged_[slot].synchronize();
  const std::size_t bytes = buffers_.tokens.bytes();
  auto* staged = staging_.as<std::byte>() + slot * 2 * bytes;
  std::memcpy(staged, batch.inputs.data(), bytes);
  std::memcpy(staged + bytes, batch.targets.data(), bytes);
  stream.copy(buffers_.tokens.data, staged, bytes);
  stream.copy(buffers_.targets.data, staged + bytes, bytes);
  staged_[slot].record(stream);
  return buffers_;
}

}  // namespace lockstep
