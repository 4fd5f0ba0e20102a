// Arena: all tensor memory of a process, by name and group, so that the plan can be printed before
// step 1 and an out-of-memory error can say which tensor did not fit and what to change.
// A dry arena (no device) only counts: `lockstep plan` and tests use it.
#pragma once

#include "core/tensor.h"
#include "device/device.h"

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

// The categories of the memory plan; also the names in `lockstep plan --json`.
enum class MemoryGroup {
  kWeights,
  kGradients,
  kOptimizer,
  kActivations,
  kLogits,
  kBuckets,
  kWorkspace
};
std::string_view name_of(MemoryGroup group);  // "weights", "gradients", ...
inline constexpr int kMemoryGroups = 7;

class Arena {
 public:
  // Counts only; tensors it returns have no memory and must not be used.
  explicit Arena(DeviceKind kind) : kind_(kind) {}
  explicit Arena(Device& device) : device_(&device), kind_(device.kind()) {}
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // A zero-filled tensor that lives as long as the arena. Throws UserError(kConfig) naming tensor,
  // shape, dtype, group and the config keys that shrink that group; also, dry or not, when the sum
  // is more than a process can address.
  Tensor allocate(std::string_view name, Shape shape, DType dtype, MemoryGroup group);

  // Counts memory that somebody else takes from the same device (a library's workspace).
  void count(std::string_view name, std::size_t bytes, MemoryGroup group);

  std::size_t bytes(MemoryGroup group) const;
  std::size_t total_bytes() const;
  bool dry() const { return device_ == nullptr; }

  // The plan as aligned text lines: group, MiB, share, largest tensors.
  std::vector<std::string> describe() const;

 private:
  struct Allocation {
    std::string name;
    MemoryGroup group;
    std::size_t bytes;
    void* data;  // null if it is only counted
  };

  Device* device_ = nullptr;
  DeviceKind kind_;
  std::vector<Allocation> allocations_;
};

}  // namespace lockstep
