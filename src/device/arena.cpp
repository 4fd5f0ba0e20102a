// Named allocations and the printed memory plan.
#include "device/arena.h"

#include <algorithm>

namespace lockstep {
namespace {

constexpr std::size_t kAlignment = 256;
constexpr std::int64_t kAddressable = std::int64_t{1} << 47;

std::string_view advice(MemoryGroup group) {
  switch (group) {
    case MemoryGroup::kWeights:
    case MemoryGroup::kGradients:
    case MemoryGroup::kOptimizer: return "choose a smaller model.preset";
    case MemoryGroup::kLogits: return "raise memory.lm_head_chunks or lower train.micro_batch_size";
    case MemoryGroup::kBuckets: return "lower comm.bucket_mib";
    case MemoryGroup::kActivations:
    case MemoryGroup::kWorkspace: break;
  }
  return "lower train.micro_batch_size or model.seq_len";
}

// Bytes of a tensor, a multiple of the alignment; 0 when they and `before` exceed what a process
// can address.
std::size_t aligned_bytes(const Shape& shape, DType dtype, std::size_t before) {
  auto bytes = static_cast<std::int64_t>(size_of(dtype));
  auto sum = static_cast<std::int64_t>(before + kAlignment);
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (__builtin_mul_overflow(bytes, shape[axis], &bytes)) return 0;
  }
  if (__builtin_add_overflow(sum, bytes, &sum) || sum > kAddressable) return 0;
  const auto wanted = static_cast<std::size_t>(bytes);
  return std::max(kAlignment, (wanted + kAlignment - 1) / kAlignment * kAlignment);
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
    case MemoryGroup::kWorkspace: return "workspace";
  }
  return "unknown";
}

Arena::~Arena() {
  for (auto it = allocations_.rbegin(); it != allocations_.rend(); ++it) {
    if (it->data != nullptr) device_->release(it->data);
  }
}

Tensor Arena::allocate(std::string_view name, Shape shape, DType dtype, MemoryGroup group) {
  const std::size_t bytes = aligned_bytes(shape, dtype, total_bytes());
  if (bytes == 0) {
    fail(ExitCode::kConfig,
         "{} {} {} (group {}) makes the sum larger than any memory: check the sizes in [model] and "
         "train.micro_batch_size",
         name, name_of(dtype), shape.str(), name_of(group));
  }
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

void Arena::count(std::string_view name, std::size_t bytes, MemoryGroup group) {
  if (bytes > 0) allocations_.push_back({std::string(name), group, bytes, nullptr});
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
