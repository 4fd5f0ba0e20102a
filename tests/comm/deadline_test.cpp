// A peer that never arrives: every wait ends at its deadline with UserError(kPeer), which names the
// call, the rank and the seconds. Requests stay pending, so this has a binary of its own.
#include "comm/mpi_main.h"

#include "comm/communicator.h"
#include "device/device.h"
#include "kernels/backend.h"

#include <array>
#include <chrono>
#include <functional>
#include <string>
#include <thread>

namespace lockstep {
namespace {

constexpr double kTimeout = 0.3;
// Rank 0 makes the call alone; the others wait until it has given up.
void expect_deadline(int rank, const std::string& call, const std::function<void()>& make_call) {
  if (rank == 0) {
    const auto start = std::chrono::steady_clock::now();
    try {
      make_call();
      ADD_FAILURE() << call << " returned without its peers";
    } catch (const UserError& error) {
      const std::string text = error.what();
      EXPECT_EQ(error.code(), ExitCode::kPeer);
      EXPECT_NE(text.find("rank 0: " + call), std::string::npos) << text;
      EXPECT_NE(text.find("0.3 s"), std::string::npos) << text;
      EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    }
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - start;
    EXPECT_GE(waited.count(), kTimeout);
    EXPECT_LT(waited.count(), 20.0);
  }
  MPI_Barrier(MPI_COMM_WORLD);
}

class Deadline : public testing::Test {
 protected:
  void SetUp() override {
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    if (size_ == 1) GTEST_SKIP() << "one rank has no peer to wait for";
  }
  int rank_ = 0;
  int size_ = 1;
};

TEST_F(Deadline, Barrier) {
  const auto world = make_mpi_world(kTimeout);
  expect_deadline(rank_, "barrier", [&] { world->barrier(); });
}

TEST_F(Deadline, AllGatherOfStrings) {
  const auto world = make_mpi_world(kTimeout);
  expect_deadline(rank_, "all_gather", [&] { world->all_gather("text"); });
}

TEST_F(Deadline, Collectives) {
  // Static: a request that was given up may still be answered, into these buffers.
  static std::array<float, 8> values{};
  static std::array<float, 2> part{};
  const auto device = kCpuBackend.open(/*ordinal=*/0, /*threads=*/1);
  Stream stream(*device, "test");
  const TypedSpan all{std::span<float>(values.data(), static_cast<std::size_t>(2 * size_))};
  const TypedSpan own{std::span<float>(part)};
  const auto reduce = make_mpi_communicator(kTimeout);
  expect_deadline(rank_, "all_reduce", [&] { reduce->all_reduce(all, ReduceOp::kSum, stream); });
  const auto scatter = make_mpi_communicator(kTimeout);
  expect_deadline(rank_, "reduce_scatter",
                  [&] { scatter->reduce_scatter(own, all, ReduceOp::kSum, stream); });
  const auto gather = make_mpi_communicator(kTimeout);
  expect_deadline(rank_, "all_gather", [&] { gather->all_gather(all, own, stream); });
  const auto broadcast = make_mpi_communicator(kTimeout);
  expect_deadline(rank_, "broadcast", [&] { broadcast->broadcast(all, /*root=*/1, stream); });
}

TEST_F(Deadline, LatePeerWithinTheDeadlineIsFine) {
  const auto world = make_mpi_world(/*timeout_seconds=*/30);
  if (rank_ != 0) std::this_thread::sleep_for(std::chrono::milliseconds(400));
  world->barrier();
  EXPECT_TRUE(world->all_agree(true));
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) { return lockstep::run_mpi_tests(argc, argv); }
