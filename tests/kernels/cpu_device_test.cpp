// The CPU device: memory, copies, inline streams and host-clock events.
#include "kernels/backend.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace lockstep {
namespace {

class CpuDeviceTest : public testing::Test {
 protected:
  std::unique_ptr<Device> device_ = kCpuBackend.open(/*ordinal=*/0, /*threads=*/1);
};

TEST_F(CpuDeviceTest, DescribesTheProcessor) {
  const DeviceInfo& info = device_->info();
  EXPECT_EQ(device_->kind(), DeviceKind::kCpu);
  EXPECT_FALSE(info.name.empty());
  EXPECT_TRUE(info.uuid.empty());
  EXPECT_GT(info.memory, std::size_t{64} << 20);
  EXPECT_EQ(info.peak_flops, 0.0);
  EXPECT_EQ(&device_->kernels(), kCpuBackend.kernels);
}

TEST_F(CpuDeviceTest, AllocationsAreAlignedAndUsableToTheLastByte) {
  for (std::size_t bytes : {0, 1, 255, 256, 257, 100003}) {
    void* data = device_->allocate(bytes);
    ASSERT_NE(data, nullptr) << bytes;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(data) % 256, 0u) << bytes;
    std::memset(data, 0xab, bytes);
    device_->release(data);
  }
}

TEST_F(CpuDeviceTest, ImpossibleAllocationIsNullNotAnException) {
  EXPECT_EQ(device_->allocate(SIZE_MAX), nullptr);
  EXPECT_EQ(device_->allocate(SIZE_MAX / 2), nullptr);
  try {
    device_->allocate_pinned(SIZE_MAX / 2);
    FAIL() << "no error";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    EXPECT_NE(std::string(error.what()).find("out of host memory"), std::string::npos);
  }
}

TEST_F(CpuDeviceTest, MemoryUsedIsThePeakAndGrowsWithUse) {
  const std::size_t before = device_->memory_used();
  EXPECT_GT(before, std::size_t{1} << 20);
  constexpr std::size_t kBytes = std::size_t{64} << 20;
  void* data = device_->allocate(kBytes);
  ASSERT_NE(data, nullptr);
  device_->zero(data, kBytes, nullptr);
  const std::size_t during = device_->memory_used();
  device_->release(data);
  EXPECT_GE(during, before + kBytes / 2);
  // Not exactly the same again: the kernel counts pages per thread and adds them up now and then.
  EXPECT_GE(device_->memory_used(), before + kBytes / 2);
}

TEST_F(CpuDeviceTest, StreamOperationsAreCompleteOnReturn) {
  Stream stream(*device_, "test");
  EXPECT_EQ(&stream.device(), device_.get());
  const std::vector<int> source = {1, 2, 3, 4};
  std::vector<int> target = {9, 9, 9, 9, 9};
  stream.copy(target.data(), source.data(), 4 * sizeof(int));
  EXPECT_EQ(target, (std::vector<int>{1, 2, 3, 4, 9}));
  stream.zero(target.data() + 1, 2 * sizeof(int));
  EXPECT_EQ(target, (std::vector<int>{1, 0, 0, 4, 9}));
  stream.copy(nullptr, nullptr, 0);
  stream.zero(nullptr, 0);
  stream.synchronize();
}

TEST_F(CpuDeviceTest, EventsReadTheHostClock) {
  Stream stream(*device_, "test");
  Event begin(*device_, /*timed=*/true);
  Event end(*device_, /*timed=*/true);
  EXPECT_THROW(Event::elapsed_ms(begin, end), CheckError);
  begin.record(stream);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  end.record(stream);
  EXPECT_TRUE(end.done());
  end.wait_on(stream);
  end.synchronize();
  const double ms = Event::elapsed_ms(begin, end);
  EXPECT_GE(ms, 5.0);
  EXPECT_LT(ms, 5000.0);
  EXPECT_DOUBLE_EQ(Event::elapsed_ms(end, begin), -ms);
}

TEST_F(CpuDeviceTest, PinnedBufferMovesItsOwnership) {
  PinnedBuffer first(*device_, 1000);
  first.as<char>()[999] = 'x';
  void* data = first.data();
  PinnedBuffer second(std::move(first));
  EXPECT_EQ(second.data(), data);
  EXPECT_EQ(second.bytes(), 1000u);
  EXPECT_EQ(first.data(), nullptr);  // NOLINT: the moved-from state is what is tested
  EXPECT_EQ(second.as<char>()[999], 'x');
}

TEST(OpenCpuDevice, RefusesZeroThreads) {
  EXPECT_THROW(kCpuBackend.open(/*ordinal=*/0, /*threads=*/0), CheckError);
}

}  // namespace
}  // namespace lockstep
