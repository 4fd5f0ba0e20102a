// World over MPI on 1, 2 and 4 ranks: placement, strings of any length, agreement.
#include "comm/communicator.h"
#include "comm/mpi_main.h"

#include <chrono>
#include <string>
#include <thread>

namespace lockstep {
namespace {

class MpiWorldTest : public testing::Test {
 protected:
  std::unique_ptr<World> world_ = make_mpi_world(/*timeout_seconds=*/60);
  int rank_ = world_->rank();
  int size_ = world_->size();
};

std::string text_of(int rank) {
  // Bytes of every value, '\0' included, and a length that differs by rank.
  std::string text;
  for (int i = 0; i < 300 * rank; ++i) text += static_cast<char>(i * 7 + rank);
  return text;
}

TEST_F(MpiWorldTest, PlacementIsThisMachine) {
  const Placement& place = world_->placement();
  int rank = -1;
  int size = -1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  EXPECT_EQ(place.rank, rank);
  EXPECT_EQ(place.size, size);
  EXPECT_FALSE(place.host.empty());
  const auto hosts = world_->all_gather(place.host);
  const auto nodes = world_->all_gather_values(place.node);
  int before = 0;
  int here = 0;
  for (int r = 0; r < size; ++r) {
    if (nodes[static_cast<std::size_t>(r)] != place.node) continue;
    EXPECT_EQ(hosts[static_cast<std::size_t>(r)], place.host);
    before += r < rank ? 1 : 0;
    ++here;
  }
  EXPECT_EQ(place.local_rank, before);
  EXPECT_EQ(place.local_size, here);
  EXPECT_EQ(nodes[0], 0);
  EXPECT_GE(place.nodes, 1);
  EXPECT_LT(place.node, place.nodes);
}

TEST_F(MpiWorldTest, StringsOfAnyLengthAndContent) {
  const auto all = world_->all_gather(text_of(rank_));
  ASSERT_EQ(all.size(), static_cast<std::size_t>(size_));
  for (int r = 0; r < size_; ++r) EXPECT_EQ(all[static_cast<std::size_t>(r)], text_of(r)) << r;
  for (int root = 0; root < size_; ++root) {
    EXPECT_EQ(world_->broadcast(text_of(rank_), root), text_of(root)) << root;
  }
  const auto none = world_->all_gather("");
  EXPECT_EQ(none, std::vector<std::string>(static_cast<std::size_t>(size_)));
  const std::string large(3000001, 'x');
  EXPECT_EQ(world_->broadcast(rank_ == 0 ? large : "", 0), large);
}

TEST_F(MpiWorldTest, IntegersReduceExactly) {
  const std::int64_t big = std::int64_t{1} << 53;
  const auto sums = world_->all_reduce({rank_, big + 1, -rank_}, ReduceOp::kSum);
  EXPECT_EQ(sums, (std::vector<std::int64_t>{size_ * (size_ - 1) / 2, size_ * (big + 1),
                                             -size_ * (size_ - 1) / 2}));
  EXPECT_EQ(world_->all_reduce({rank_}, ReduceOp::kMax)[0], size_ - 1);
  EXPECT_EQ(world_->all_reduce({rank_ + 5}, ReduceOp::kMin)[0], 5);
  EXPECT_TRUE(world_->all_reduce({}, ReduceOp::kSum).empty());
}

TEST_F(MpiWorldTest, AllAgreeOnlyIfAllDo) {
  EXPECT_TRUE(world_->all_agree(true));
  for (int bad = 0; bad < size_; ++bad) EXPECT_FALSE(world_->all_agree(rank_ != bad)) << bad;
  EXPECT_FALSE(world_->all_agree(false));
}

// Nanoseconds on the clock that all processes of a host share (MPI_Wtime need not be one).
std::int64_t host_time() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

TEST_F(MpiWorldTest, NobodyPassesABarrierEarly) {
  for (int late = 0; late < size_; ++late) {
    if (rank_ == late) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const std::int64_t arrived = host_time();
    world_->barrier();
    const std::int64_t left = host_time();
    const std::int64_t last_arrival = world_->all_reduce({arrived}, ReduceOp::kMax)[0];
    const std::int64_t first_leave = world_->all_reduce({left}, ReduceOp::kMin)[0];
    if (world_->placement().nodes == 1) {
      EXPECT_GE(first_leave, last_arrival) << "rank " << late << " was late";
    }
  }
}

TEST_F(MpiWorldTest, TwoWorldsDoNotMixTheirMessages) {
  const auto other = make_mpi_world(/*timeout_seconds=*/60);
  EXPECT_EQ(other->broadcast(std::to_string(rank_), 0), "0");
  EXPECT_EQ(world_->broadcast("second", size_ - 1), "second");
}

TEST(MpiVersion, IsOneLine) {
  EXPECT_FALSE(mpi_version().empty());
  EXPECT_EQ(mpi_version().find('\n'), std::string::npos);
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) { return lockstep::run_mpi_tests(argc, argv); }
