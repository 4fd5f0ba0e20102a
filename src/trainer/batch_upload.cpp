// The ring: a slot is written again only when the device has read it.
#include "trainer/batch_upload.h"

#include <cstring>

namespace lockstep {
namespace {

constexpr int kSlots = 4;

}  // namespace

BatchBuffers::BatchBuffers(Arena& arena, std::int64_t rows)
    : tokens(arena.allocate("tokens", {rows}, DType::kI32, MemoryGroup::kActivations)),
      targets(arena.allocate("targets", {rows}, DType::kI32, MemoryGroup::kActivations)) {}

BatchUpload::BatchUpload(BatchBuffers buffers, Device& device)
    : buffers_(std::move(buffers)), staging_(device, kSlots * 2 * buffers_.tokens.bytes()) {
  for (int slot = 0; slot < kSlots; ++slot) staged_.emplace_back(device);
}

const BatchBuffers& BatchUpload::upload(const Batch& batch, Stream& stream) {
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
