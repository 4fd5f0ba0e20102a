// Named allocations and the printed memory plan.
#include "device/arena.h"

#include <algorithm>

namespace lockstep {
namespace {

constexpr std::size_t kAlignment = 256;

std::string_view advice(MemoryGroup group) {
  switch (group) {
    case MemoryGroup::kWeights:
    case MemoryGroup::kGradients:
    case MemoryGroup::kOptimizer: return "choose a smaller model.preset";
    case MemoryGroup::kLogits: return "raise memory.lm_head_chunks or lower train.micro_batch_size";
    case MemoryGroup::kBuckets: return "lower comm.bucket_mib";
    case MemoryGroup::kActivations: break;
  }
  return "lower train.micro_batch_size or model.seq_len";
}

double mib(std::size_t bytes) { return static_cast<double>(bytes) / (1024.0 * 1024.0); }

}  // namespace

std::string_view name_of(MemoryGroup group) {
  switch (group) {
    case MemoryGroup::kWeights: return "weights";
    case MemoryGroup::kGradients: return "gradients";
    case MemoryGroup::kOptimizer: return "optimizer";
    case MemoryGroup::kActivations: return "activations";
    case MemoryGroup::kLogits: return "logits";
    case MemoryGroup::kBuckets: return "buckets";
  }
  return "unknown";
}

Arena::~Arena() {
  for (auto it = allocations_.rbegin(); it != allocations_.rend(); ++it) {
    if (device_ != nullptr) device_->release(it->data);
  }
}

Tensor Arena::allocate(std::string_view name, Shape shape, DType dtype, MemoryGroup group) {
  const std::size_t wanted = static_cast<std::size_t>(shape.count()) * size_of(dtype);
  const std::size_t bytes =
      std::max(kAlignment, (wanted + kAlignment - 1) / kAlignment * kAlignment);
  void* data = nullptr;
  if (device_ != nullptr) {
    data = device_->allocate(bytes);
    if (data == nullptr) {
      fail(
          ExitCode::kConfig,
          "out of device memory: {} {} {} ({:.1f} MiB, group {}) does not fit after {:.1f} MiB; {}",
          name, name_of(dtype), shape.str(), mib(bytes), name_of(group), mib(total_bytes()),
          advice(group));
    }
    device_->zero(data, bytes, nullptr);
  }
  allocations_.push_back({std::string(name), group, bytes, data});
  return {data, shape, dtype, kind_};
}

std::size_t Arena::bytes(MemoryGroup group) const {
  std::size_t sum = 0;
  for (const Allocation& allocation : allocations_) {
    if (allocation.group == group) sum += allocation.bytes;
  }
  return sum;
}

std::size_t Arena::total_bytes() const {
  std::size_t sum = 0;
  for (const Allocation& allocation : allocations_) sum += allocation.bytes;
  return sum;
}

std::vector<std::string> Arena::describe() const {
  const double total = std::max<double>(1.0, static_cast<double>(total_bytes()));
  std::vector<std::string> lines;
  for (int g = 0; g < kMemoryGroups; ++g) {
    const auto group = static_cast<MemoryGroup>(g);
    const Allocation* largest = nullptr;
    int tensors = 0;
    for (const Allocation& allocation : allocations_) {
      if (allocation.group != group) continue;
      ++tensors;
      if (largest == nullptr || allocation.bytes > largest->bytes) largest = &allocation;
    }
    if (largest == nullptr) continue;
    lines.push_back(fmt::format("  {:<12} {:>10.1f} MiB {:>5.1f}%  {:>4} tensors, largest {}",
                                name_of(group), mib(bytes(group)),
                                100.0 * static_cast<double>(bytes(group)) / total, tensors,
                                largest->name));
  }
  lines.push_back(fmt::format("  {:<12} {:>10.1f} MiB", "total", mib(total_bytes())));
  return lines;
}

}  // namespace lockstep
