// The nccl communicator, for real: one rank per GPU, or several ranks on one card when there are
// more ranks than cards. Sums are of small integers, exact in every type and order; a second test
// asks that ranks hold the same bits when the order matters.
#include "comm/mpi_main.h"
#include "comm/reference.h"
#include "device/device.h"
#include "kernels/backend.h"

#include <optional>

namespace lockstep {
namespace {

constexpr std::int64_t kCounts[] = {0, 1, 3, 1023, 1000007};

// What all tests of a process share: connecting takes seconds.
struct Job {
  std::unique_ptr<World> world = make_mpi_world(/*timeout_seconds=*/60);
  std::unique_ptr<Device> device;
  std::optional<Stream> stream;
  std::unique_ptr<Communicator> comm;
};

std::optional<Job>& job() {
  static std::optional<Job> value;
  return value;
}

// Why the tests cannot run here, or "".
std::string reason_to_skip() {
  if (kCudaBackend.count() == 0) return "no GPU: " + kCudaBackend.status();
  if (nccl_version().empty()) return "this build has no NCCL";
  return "";
}

void open_job() {
  Job& opened = job().emplace();
  const Placement& place = opened.world->placement();
  const int gpus = kCudaBackend.count();
  opened.device = kCudaBackend.open(place.local_rank % gpus, /*threads=*/1);
  opened.stream.emplace(*opened.device, "comm");
  opened.comm = make_nccl_communicator(
      *opened.world, *opened.device, {.share_gpu = place.local_size > gpus, .timeout_seconds = 60});
}

// Small enough that a sum over four ranks is exact even in bf16 (8 bits) and fits in uint8.
template <typename T>
T small(int rank, std::int64_t i) {
  const int value = static_cast<int>((i * 7 + rank * 13) % 31);
  if constexpr (kIsHalf<T>) {
    return from_float<T>(static_cast<float>(value));
  } else {
    return static_cast<T>(value);
  }
}
template <typename T>
float as_float(T value) {
  if constexpr (kIsHalf<T>) {
    return to_float(value);
  } else {
    return static_cast<float>(value);
  }
}
template <typename T>
float expected(int size, std::int64_t i, ReduceOp op) {
  float result = as_float(small<T>(0, i));
  for (int r = 1; r < size; ++r) result = combine(result, as_float(small<T>(r, i)), op);
  return result;
}

// `count` elements on the GPU between sentinels of 0x5a bytes.
template <typename T>
class OnGpu {
 public:
  OnGpu(Device& device, Stream& stream, std::int64_t count)
      : device_(device), stream_(stream), count_(count), host_(all(), T{}) {
    std::memset(host_.data(), 0x5a, bytes());
    data_ = static_cast<T*>(device.allocate(bytes()));
    CHECK(data_ != nullptr);
  }
  ~OnGpu() { device_.release(data_); }
  OnGpu(const OnGpu&) = delete;
  OnGpu& operator=(const OnGpu&) = delete;

  T& operator[](std::int64_t i) { return host_[static_cast<std::size_t>(i + kGuard)]; }
  void upload() {
    stream_.copy(data_, host_.data(), bytes());
    stream_.synchronize();
  }
  void download() {
    stream_.copy(host_.data(), data_, bytes());
    stream_.synchronize();
  }
  bool intact() const {
    const auto* first = reinterpret_cast<const unsigned char*>(host_.data());
    const auto is_guard = [](unsigned char byte) { return byte == 0x5a; };
    return std::all_of(first, first + kGuard * sizeof(T), is_guard) &&
           std::all_of(first + bytes() - kGuard * sizeof(T), first + bytes(), is_guard);
  }
  TypedSpan span() const {
    return TypedSpan(Tensor(data_ + kGuard, Shape{count_}, dtype_of<T>, DeviceKind("cuda")));
  }
  std::string raw() const {
    return std::string(reinterpret_cast<const char*>(host_.data()), bytes());
  }

 private:
  static constexpr std::int64_t kGuard = 64;
  std::size_t all() const { return static_cast<std::size_t>(count_ + 2 * kGuard); }
  std::size_t bytes() const { return all() * sizeof(T); }
  Device& device_;
  Stream& stream_;
  std::int64_t count_;
  std::vector<T> host_;
  T* data_ = nullptr;
};

template <typename T>
class NcclCollectives : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = reason_to_skip(); !reason.empty()) GTEST_SKIP() << reason;
    if (!job()) open_job();
  }
  Communicator& comm() { return *job()->comm; }
  Stream& stream() { return *job()->stream; }
  OnGpu<T> buffer(std::int64_t count) { return OnGpu<T>(*job()->device, stream(), count); }
  int rank() { return comm().rank(); }
  int size() { return comm().size(); }
  void fill(OnGpu<T>& on_gpu, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i) on_gpu[i] = small<T>(rank(), i);
    on_gpu.upload();
  }
  template <typename Expected>
  void expect(OnGpu<T>& on_gpu, std::int64_t count, const char* call, Expected wanted) {
    on_gpu.download();
    EXPECT_TRUE(on_gpu.intact()) << call << " wrote outside its span";
    for (std::int64_t i = 0; i < count; ++i) {
      if (as_float(on_gpu[i]) == wanted(i)) continue;
      ADD_FAILURE() << call << " of " << name_of(dtype_of<T>) << ": element " << i << " of "
                    << count << " is " << as_float(on_gpu[i]) << ", expected " << wanted(i);
      return;
    }
  }
};

using Types = testing::Types<float, double, bf16, f16, std::int32_t, std::int64_t, std::uint8_t>;
TYPED_TEST_SUITE(NcclCollectives, Types);

TYPED_TEST(NcclCollectives, AllReduce) {
  using T = TypeParam;
  for (ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin}) {
    for (std::int64_t count : kCounts) {
      auto data = this->buffer(count);
      this->fill(data, count);
      this->comm().all_reduce(data.span(), op, this->stream());
      this->expect(data, count, "all_reduce",
                   [&](std::int64_t i) { return expected<T>(this->size(), i, op); });
    }
  }
}

TYPED_TEST(NcclCollectives, ReduceScatter) {
  using T = TypeParam;
  for (std::int64_t count : kCounts) {
    auto in = this->buffer(count * this->size());
    auto out = this->buffer(count);
    this->fill(in, count * this->size());
    out.upload();
    this->comm().reduce_scatter(out.span(), in.span(), ReduceOp::kSum, this->stream());
    this->expect(out, count, "reduce_scatter", [&](std::int64_t i) {
      return expected<T>(this->size(), this->rank() * count + i, ReduceOp::kSum);
    });
  }
}

TYPED_TEST(NcclCollectives, AllGather) {
  using T = TypeParam;
  for (std::int64_t count : kCounts) {
    auto in = this->buffer(count);
    auto out = this->buffer(count * this->size());
    this->fill(in, count);
    out.upload();
    this->comm().all_gather(out.span(), in.span(), this->stream());
    this->expect(out, count * this->size(), "all_gather", [&](std::int64_t i) {
      return as_float(small<T>(static_cast<int>(i / count), i % count));
    });
  }
}

TYPED_TEST(NcclCollectives, BroadcastFromEveryRoot) {
  using T = TypeParam;
  for (int root = 0; root < this->size(); ++root) {
    for (std::int64_t count : {0, 1, 1023}) {
      auto data = this->buffer(count);
      this->fill(data, count);
      this->comm().broadcast(data.span(), root, this->stream());
      this->expect(data, count, "broadcast",
                   [&](std::int64_t i) { return as_float(small<T>(root, i)); });
    }
  }
}

using NcclFloat = NcclCollectives<float>;

TEST_F(NcclFloat, EveryRankHoldsTheSameBitsEveryTime) {
  constexpr std::int64_t kCount = 300007;
  std::string first;
  for (int round = 0; round < 3; ++round) {
    auto data = buffer(kCount);
    for (std::int64_t i = 0; i < kCount; ++i) data[i] = value_of<float>(rank(), i);
    data.upload();
    comm().all_reduce(data.span(), ReduceOp::kSum, stream());
    data.download();
    const auto all = job()->world->all_gather(data.raw());
    for (const std::string& other : all) EXPECT_TRUE(other == all[0]) << "round " << round;
    if (round == 0) first = all[0];
    EXPECT_TRUE(all[0] == first) << "round " << round << " differs from round 0";
  }
}

TEST_F(NcclFloat, AgreesWithMpiOnDeviceMemory) {
  constexpr std::int64_t kCount = 2500003;  // more than one staging block
  const auto mpi = make_mpi_communicator(/*timeout_seconds=*/60);
  auto data = buffer(kCount);
  fill(data, kCount);
  mpi->all_reduce(data.span(), ReduceOp::kSum, stream());
  expect(data, kCount, "mpi all_reduce",
         [&](std::int64_t i) { return expected<float>(size(), i, ReduceOp::kSum); });
  auto in = buffer(kCount);
  auto out = buffer(kCount * size());
  fill(in, kCount);
  out.upload();
  mpi->all_gather(out.span(), in.span(), stream());
  expect(out, kCount * size(), "mpi all_gather", [&](std::int64_t i) {
    return as_float(small<float>(static_cast<int>(i / kCount), i % kCount));
  });
  auto piece = buffer(kCount);
  fill(out, kCount * size());
  piece.upload();
  mpi->reduce_scatter(piece.span(), out.span(), ReduceOp::kSum, stream());
  expect(piece, kCount, "mpi reduce_scatter", [&](std::int64_t i) {
    return expected<float>(size(), rank() * kCount + i, ReduceOp::kSum);
  });
  fill(in, kCount);
  mpi->broadcast(in.span(), size() - 1, stream());
  expect(in, kCount, "mpi broadcast",
         [&](std::int64_t i) { return as_float(small<float>(size() - 1, i)); });
}

TEST_F(NcclFloat, HostMemoryIsRefused) {
  std::vector<float> host(4);
  EXPECT_THROW(comm().all_reduce(std::span(host), ReduceOp::kSum, stream()), CheckError);
}

TEST_F(NcclFloat, ReportsNoErrorWhenThereIsNone) {
  comm().check_async_error();
  EXPECT_EQ(comm().name(), "nccl");
  const std::string version = nccl_version();
  EXPECT_EQ(std::count(version.begin(), version.end(), '.'), 2) << version;
}

TEST_F(NcclFloat, RanksOnOneCardHaveHostIdsOfTheirOwn) {
  if (size() == 1 || kCudaBackend.count() >= size()) GTEST_SKIP() << "each rank has its own GPU";
  const char* host_id = std::getenv("NCCL_HOSTID");
  ASSERT_NE(host_id, nullptr) << "share_gpu sets it";
  EXPECT_NE(std::string(host_id).find("-" + std::to_string(rank())), std::string::npos);
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  // The communicator must leave before MPI does, and while its device is open.
  class Closer final : public testing::Environment {
    void TearDown() override {
      if (auto& job = lockstep::job()) {
        job->comm.reset();
        job.reset();
      }
    }
  };
  testing::AddGlobalTestEnvironment(new Closer);
  return lockstep::run_mpi_tests(argc, argv);
}
