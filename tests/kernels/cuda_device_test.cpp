// The CUDA device. Where there is no GPU, what a user is told; where there is one, the primitives.
#include "kernels/backend.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <thread>
#include <vector>

namespace lockstep {
namespace {

TEST(CudaAbsence, IsToldInWords) {
  if (kCudaBackend.count() > 0) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_FALSE(kCudaBackend.status().empty());
  try {
    kCudaBackend.open(/*ordinal=*/0, /*threads=*/1);
    FAIL() << "no error";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    EXPECT_NE(std::string(error.what()).find("run.device=cpu"), std::string::npos) << error.what();
  }
}

class CudaDeviceTest : public testing::Test {
 protected:
  void SetUp() override {
    if (kCudaBackend.count() == 0) GTEST_SKIP() << "no GPU: " << kCudaBackend.status();
    device_ = kCudaBackend.open(/*ordinal=*/0, /*threads=*/1);
  }
  std::unique_ptr<Device> device_;
};

// Device memory with an owner.
class Block {
 public:
  Block(Device& device, std::size_t bytes) : device_(device), data(device.allocate(bytes)) {}
  ~Block() { device_.release(data); }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

 private:
  Device& device_;

 public:
  void* const data;
};

TEST_F(CudaDeviceTest, DescribesTheGpu) {
  const DeviceInfo& info = device_->info();
  EXPECT_EQ(info.kind, DeviceKind("cuda"));
  EXPECT_FALSE(info.name.empty());
  EXPECT_EQ(info.uuid.substr(0, 4), "GPU-");
  EXPECT_EQ(info.uuid.size(), 40u);
  EXPECT_GT(info.memory, std::size_t{1} << 30);
  if (info.name == "NVIDIA H100 80GB HBM3" || info.name == "NVIDIA H200") {
    EXPECT_EQ(info.peak_flops, 989.4e12);
    EXPECT_EQ(info.peak_flops_fp32, 67e12);
  }
  EXPECT_NE(kCudaBackend.status().find("visible"), std::string::npos) << kCudaBackend.status();
}

TEST_F(CudaDeviceTest, OrdinalBeyondTheLastIsAnError) {
  try {
    kCudaBackend.open(kCudaBackend.count(), /*threads=*/1);
    FAIL() << "no error";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::kConfig);
    EXPECT_NE(std::string(error.what()).find("comm.share_gpu"), std::string::npos);
  }
}

TEST_F(CudaDeviceTest, OutOfMemoryIsNullAndLeavesNoErrorBehind) {
  EXPECT_EQ(device_->allocate(device_->info().memory * 4), nullptr);
  Block block(*device_, 1 << 20);
  ASSERT_NE(block.data, nullptr);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.data) % 256, 0u);
  EXPECT_GE(device_->memory_used(), std::size_t{1} << 20);
}

TEST_F(CudaDeviceTest, NullStreamMeansCompleteOnReturn) {
  constexpr std::size_t kCount = 1 << 20;
  std::vector<std::int32_t> sent(kCount);
  for (std::size_t i = 0; i < kCount; ++i) sent[i] = static_cast<std::int32_t>(i * 7 + 1);
  std::vector<std::int32_t> back(kCount, -1);
  Block block(*device_, kCount * 4);
  device_->copy(block.data, sent.data(), kCount * 4, nullptr);
  device_->copy(back.data(), block.data, kCount * 4, nullptr);
  EXPECT_EQ(back, sent);
  device_->zero(block.data, kCount * 2, nullptr);
  device_->copy(back.data(), block.data, kCount * 4, nullptr);
  EXPECT_EQ(back[kCount / 2 - 1], 0);
  EXPECT_EQ(back[kCount / 2], sent[kCount / 2]);
}

TEST_F(CudaDeviceTest, EventsOrderStreamsAndMeasureTime) {
  constexpr std::size_t kBytes = std::size_t{64} << 20;
  Stream compute(*device_, "compute");
  Stream side(*device_, "side", /*high_priority=*/true);
  Block block(*device_, kBytes);
  PinnedBuffer ones(*device_, kBytes);
  PinnedBuffer back(*device_, kBytes);
  for (std::size_t i = 0; i < kBytes; ++i) ones.as<std::uint8_t>()[i] = 1;
  Event begin(*device_, /*timed=*/true);
  Event end(*device_, /*timed=*/true);
  begin.record(compute);
  compute.zero(block.data, kBytes);
  compute.copy(block.data, ones.data(), kBytes);
  end.record(compute);
  end.wait_on(side);
  side.copy(back.data(), block.data, kBytes);
  side.synchronize();
  EXPECT_TRUE(end.done());
  EXPECT_EQ(back.as<std::uint8_t>()[0], 1);
  EXPECT_EQ(back.as<std::uint8_t>()[kBytes - 1], 1);
  EXPECT_GT(Event::elapsed_ms(begin, end), 0.1);  // 64 MiB in 0.1 ms would be 670 GB/s over PCIe
}

TEST_F(CudaDeviceTest, AnotherThreadMayCall) {
  Block block(*device_, 1024);
  std::vector<std::uint8_t> back(1024, 9);
  std::thread([&] {
    device_->zero(block.data, 1024, nullptr);
    device_->copy(back.data(), block.data, 1024, nullptr);
  }).join();
  EXPECT_EQ(back, std::vector<std::uint8_t>(1024, 0));
}

TEST_F(CudaDeviceTest, ErrorsCarryCudasText) {
  Event event(*device_, /*timed=*/false);
  try {
    Event::elapsed_ms(event, event);
    FAIL() << "no error";
  } catch (const CheckError& error) {
    EXPECT_NE(std::string(error.what()).find("cudaEventElapsedTime"), std::string::npos);
  }
  Block block(*device_, 256);  // and the device goes on working
  EXPECT_NE(block.data, nullptr);
}

}  // namespace
}  // namespace lockstep
