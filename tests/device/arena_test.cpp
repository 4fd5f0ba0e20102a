// The arena: a dry plan equals the wet one, memory is zeroed, and out-of-memory says what did not
// fit and what to change. A fake device with a small capacity stands in for a full GPU.
#include "device/arena.h"
#include "kernels/backend.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

namespace lockstep {
namespace {

// Hands out dirty memory up to a capacity, and counts what is still held.
class SmallDevice final : public Device {
 public:
  explicit SmallDevice(std::size_t capacity)
      : Device(*kCpuBackend.kernels, nullptr), capacity_(capacity) {}

  const DeviceInfo& info() const override { return info_; }
  void* allocate(std::size_t bytes) override {
    if (used_ + bytes > capacity_) return nullptr;
    used_ += bytes;
    ++held_;
    void* data = std::aligned_alloc(256, bytes);
    std::memset(data, 0xff, bytes);
    return data;
  }
  void release(void* data) noexcept override {
    --held_;
    std::free(data);
  }
  void zero(void* dst, std::size_t bytes, void*) override { std::memset(dst, 0, bytes); }
  std::size_t memory_used() const override { return used_; }
  int held() const { return held_; }

  void* allocate_pinned(std::size_t) override { return nullptr; }
  void release_pinned(void*) noexcept override {}
  void* create_stream(const char*, bool) override { return nullptr; }
  void destroy_stream(void*) noexcept override {}
  void synchronize_stream(void*) override {}
  void copy(void*, const void*, std::size_t, void*) override {}
  void* create_event(bool) override { return nullptr; }
  void destroy_event(void*) noexcept override {}
  void record_event(void*, void*) override {}
  void wait_event(void*, void*) override {}
  bool event_done(void*) override { return true; }
  void synchronize_event(void*) override {}
  double elapsed_ms(void*, void*) override { return 0.0; }

 private:
  DeviceInfo info_;
  std::size_t capacity_;
  std::size_t used_ = 0;
  int held_ = 0;
};

void allocate_some(Arena& arena) {
  arena.allocate("embed", {3, 5}, DType::kF32, MemoryGroup::kWeights);
  arena.allocate("grad", {1000}, DType::kF32, MemoryGroup::kGradients);
  arena.allocate("mask", {257}, DType::kU8, MemoryGroup::kActivations);
  arena.allocate("empty", {0}, DType::kF32, MemoryGroup::kActivations);
}

std::string message_when_full(MemoryGroup group) {
  SmallDevice device(4096);
  Arena arena(device);
  arena.allocate("first", {512}, DType::kF32, MemoryGroup::kWeights);
  try {
    arena.allocate("block.3.ffn", {64, 100}, DType::kBF16, group);
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    EXPECT_EQ(arena.total_bytes(), 2048u);  // the failed one is not in the plan
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

void expect_in(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "\"" << part << "\" is not in: " << text;
}

TEST(Arena, DryAndWetCountTheSame) {
  SmallDevice device(1 << 20);
  Arena wet(device);
  Arena dry(DeviceKind("cuda"));
  allocate_some(wet);
  allocate_some(dry);
  EXPECT_TRUE(dry.dry());
  EXPECT_FALSE(wet.dry());
  EXPECT_EQ(dry.total_bytes(), 256u + 4096u + 512u + 256u);
  EXPECT_EQ(dry.total_bytes(), wet.total_bytes());
  EXPECT_EQ(wet.total_bytes(), device.memory_used());
  for (int g = 0; g < kMemoryGroups; ++g) {
    const auto group = static_cast<MemoryGroup>(g);
    EXPECT_EQ(dry.bytes(group), wet.bytes(group)) << name_of(group);
  }
  EXPECT_EQ(dry.describe(), wet.describe());
}

TEST(Arena, DryTensorsHaveNoMemoryButTheRightKind) {
  Arena dry(DeviceKind("cuda"));
  const Tensor tensor = dry.allocate("x", {2, 3}, DType::kBF16, MemoryGroup::kLogits);
  EXPECT_EQ(tensor.data, nullptr);
  EXPECT_EQ(tensor.device, DeviceKind("cuda"));
  EXPECT_EQ(tensor.shape, (Shape{2, 3}));
}

TEST(Arena, MemoryIsAlignedZeroedAndReleased) {
  SmallDevice device(1 << 20);
  {
    Arena arena(device);
    arena.allocate("odd", {3}, DType::kU8, MemoryGroup::kWeights);
    const Tensor tensor = arena.allocate("x", {77}, DType::kF32, MemoryGroup::kWeights);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.data) % 256, 0u);
    for (int i = 0; i < 77; ++i) EXPECT_EQ(tensor.as<float>()[i], 0.0f) << i;
    EXPECT_EQ(device.held(), 2);
  }
  EXPECT_EQ(device.held(), 0);
}

TEST(Arena, OutOfMemoryNamesTensorShapeTypeAndGroup) {
  const std::string text = message_when_full(MemoryGroup::kActivations);
  expect_in(text, "out of device memory");
  expect_in(text, "block.3.ffn");
  expect_in(text, "bf16");
  expect_in(text, "[64, 100]");
  expect_in(text, "activations");
  expect_in(text, "train.micro_batch_size");
}

TEST(Arena, OutOfMemoryAdviceFollowsTheGroup) {
  expect_in(message_when_full(MemoryGroup::kWeights), "model.preset");
  expect_in(message_when_full(MemoryGroup::kOptimizer), "model.preset");
  expect_in(message_when_full(MemoryGroup::kLogits), "memory.lm_head_chunks");
  expect_in(message_when_full(MemoryGroup::kBuckets), "comm.bucket_mib");
}

TEST(Arena, DescribeListsUsedGroupsAndTheTotal) {
  Arena arena(DeviceKind::kCpu);
  allocate_some(arena);
  const auto lines = arena.describe();
  ASSERT_EQ(lines.size(), 4u);  // weights, gradients, activations, total
  expect_in(lines[0], "weights");
  expect_in(lines[0], "embed");
  expect_in(lines[1], "gradients");
  expect_in(lines[2], "mask");
  expect_in(lines[3], "total");
}

}  // namespace
}  // namespace lockstep
