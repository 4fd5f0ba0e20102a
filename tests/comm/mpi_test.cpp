// The mpi communicator on 1, 2 and 4 ranks: every collective and element type against a plain
// loop, bit for bit. All ranks compare with the same reference, so they hold the same bits.
#include "comm/mpi_main.h"
#include "comm/reference.h"
#include "device/device.h"
#include "kernels/backend.h"

namespace lockstep {
namespace {

// Odd sizes, fewer elements than ranks, and more than one block of every type.
constexpr std::int64_t kLarge = 1000007;
constexpr std::int64_t kMoreThanABlock = 8400011;
constexpr std::int64_t kCounts[] = {0, 1, 3, 1023, kLarge};
constexpr ReduceOp kOps[] = {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin};

template <typename T>
class MpiCollectives : public testing::Test {
 protected:
  void all_reduce(std::int64_t count, ReduceOp op);
  void reduce_scatter(std::int64_t count, ReduceOp op);
  void all_gather(std::int64_t count);
  void broadcast(std::int64_t count, int root);

  std::string what(const char* call, std::int64_t count) const {
    return fmt::format("{} of {} {} on rank {}", call, count, name_of(dtype_of<T>), rank_);
  }

  std::unique_ptr<Device> device_ = kCpuBackend.open(/*ordinal=*/0, /*threads=*/1);
  Stream stream_{*device_, "test"};
  std::unique_ptr<Communicator> comm_ = make_mpi_communicator(/*timeout_seconds=*/60);
  int rank_ = comm_->rank();
  int size_ = comm_->size();
};

template <typename T>
void MpiCollectives<T>::all_reduce(std::int64_t count, ReduceOp op) {
  Guarded<T> buffer(count);
  for (std::int64_t i = 0; i < count; ++i) buffer[i] = value_of<T>(rank_, i);
  comm_->all_reduce(buffer.span(), op, stream_);
  expect_bits(buffer, count, what("all_reduce", count),
              [&](std::int64_t i) { return reduced<T>(size_, i, op); });
}

template <typename T>
void MpiCollectives<T>::reduce_scatter(std::int64_t count, ReduceOp op) {
  Guarded<T> in(count * size_);
  Guarded<T> out(count);
  for (std::int64_t i = 0; i < count * size_; ++i) in[i] = value_of<T>(rank_, i);
  comm_->reduce_scatter(out.span(), in.span(), op, stream_);
  expect_bits(out, count, what("reduce_scatter", count),
              [&](std::int64_t i) { return reduced<T>(size_, rank_ * count + i, op); });
  expect_bits(in, count * size_, what("reduce_scatter's input", count),
              [&](std::int64_t i) { return value_of<T>(rank_, i); });
}

template <typename T>
void MpiCollectives<T>::all_gather(std::int64_t count) {
  Guarded<T> in(count);
  Guarded<T> out(count * size_);
  for (std::int64_t i = 0; i < count; ++i) in[i] = value_of<T>(rank_, i);
  comm_->all_gather(out.span(), in.span(), stream_);
  expect_bits(out, count * size_, what("all_gather", count),
              [&](std::int64_t i) { return value_of<T>(static_cast<int>(i / count), i % count); });
}

template <typename T>
void MpiCollectives<T>::broadcast(std::int64_t count, int root) {
  Guarded<T> buffer(count);
  for (std::int64_t i = 0; i < count; ++i) buffer[i] = value_of<T>(rank_, i);
  comm_->broadcast(buffer.span(), root, stream_);
  expect_bits(buffer, count, what("broadcast", count),
              [&](std::int64_t i) { return value_of<T>(root, i); });
}

using Types = testing::Types<float, double, bf16, f16, std::int32_t, std::int64_t, std::uint8_t>;
TYPED_TEST_SUITE(MpiCollectives, Types);

TYPED_TEST(MpiCollectives, AllReduce) {
  for (std::int64_t count : kCounts) this->all_reduce(count, ReduceOp::kSum);
  for (ReduceOp op : kOps) this->all_reduce(1023, op);
}

TYPED_TEST(MpiCollectives, ReduceScatter) {
  for (std::int64_t count : {0, 1, 3, 1023, 250007}) this->reduce_scatter(count, ReduceOp::kSum);
  for (ReduceOp op : kOps) this->reduce_scatter(1023, op);
}

TYPED_TEST(MpiCollectives, AllGather) {
  for (std::int64_t count : kCounts) this->all_gather(count);
}

TYPED_TEST(MpiCollectives, BroadcastFromEveryRoot) {
  for (int root = 0; root < this->size_; ++root) {
    for (std::int64_t count : {0, 1, 3, 1023}) this->broadcast(count, root);
  }
  this->broadcast(kLarge, this->size_ - 1);
}

using MpiFloat = MpiCollectives<float>;
using MpiByte = MpiCollectives<std::uint8_t>;

TEST_F(MpiFloat, MoreThanOneBlock) {
  all_reduce(2500003, ReduceOp::kSum);
  reduce_scatter(2500003 / size_ + 1, ReduceOp::kSum);
}

TEST_F(MpiByte, MoreThanOneBlock) {
  broadcast(kMoreThanABlock, 0);
  all_gather(kMoreThanABlock / size_ + 1);
}

// What makes sharded and replicated runs equal: an element's sum does not depend on the collective,
// on its place in the buffer, or on how the buffer was cut.
TEST_F(MpiFloat, TheSumOfAnElementDependsOnNothingButItsValues) {
  constexpr std::int64_t kPiece = 10007;
  const std::int64_t count = kPiece * size_;
  std::vector<float> whole(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i)
    whole[static_cast<std::size_t>(i)] = value_of<float>(rank_, i);
  std::vector<float> cut = whole;
  std::vector<float> scattered = whole;
  std::vector<float> own(static_cast<std::size_t>(kPiece));
  comm_->all_reduce(std::span(whole), ReduceOp::kSum, stream_);
  const TypedSpan all{std::span(cut)};
  for (std::int64_t begin = 0; begin < count; begin += 777) {
    comm_->all_reduce(all.slice(begin, std::min<std::int64_t>(777, count - begin)), ReduceOp::kSum,
                      stream_);
  }
  comm_->reduce_scatter(std::span(own), std::span(scattered), ReduceOp::kSum, stream_);
  comm_->all_gather(std::span(scattered), std::span(own), stream_);
  EXPECT_EQ(std::memcmp(whole.data(), cut.data(), whole.size() * sizeof(float)), 0);
  EXPECT_EQ(std::memcmp(whole.data(), scattered.data(), whole.size() * sizeof(float)), 0);
}

TEST_F(MpiFloat, InPlacePiecesAreAllowed) {
  constexpr std::int64_t kPiece = 5003;
  const std::int64_t count = kPiece * size_;
  std::vector<float> data(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i)
    data[static_cast<std::size_t>(i)] = value_of<float>(rank_, i);
  const TypedSpan all{std::span(data)};
  const TypedSpan own = all.slice(rank_ * kPiece, kPiece);
  comm_->reduce_scatter(own, all, ReduceOp::kSum, stream_);
  comm_->all_gather(all, own, stream_);
  for (std::int64_t i = 0; i < count; ++i) {
    ASSERT_TRUE(
        same_bits(data[static_cast<std::size_t>(i)], reduced<float>(size_, i, ReduceOp::kSum)))
        << i;
  }
}

TEST_F(MpiFloat, NonFiniteValuesReachEveryRank) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (ReduceOp op : kOps) {
    for (int bad_rank = 0; bad_rank < size_; ++bad_rank) {
      std::vector<float> data = {1.0f, rank_ == bad_rank ? nan : 2.0f,
                                 rank_ == bad_rank ? infinity : 3.0f};
      comm_->all_reduce(std::span(data), op, stream_);
      EXPECT_TRUE(std::isfinite(data[0]));
      EXPECT_TRUE(std::isnan(data[1])) << "NaN of rank " << bad_rank << " was lost";
      if (op != ReduceOp::kMin || size_ == 1) {
        EXPECT_EQ(data[2], infinity);
      }
    }
  }
}

TEST_F(MpiFloat, MisuseIsRefusedBeforeAnythingMoves) {
  std::vector<float> three(3);
  std::vector<float> four(static_cast<std::size_t>(3 * size_ + 1));
  std::vector<double> doubles(static_cast<std::size_t>(3 * size_));
  EXPECT_THROW(comm_->reduce_scatter(std::span(three), std::span(four), ReduceOp::kSum, stream_),
               CheckError);
  EXPECT_THROW(comm_->all_gather(std::span(doubles), std::span(three), stream_), CheckError);
  EXPECT_THROW(comm_->broadcast(std::span(three), size_, stream_), CheckError);
  EXPECT_THROW(comm_->broadcast(std::span(three), -1, stream_), CheckError);
  const TypedSpan span{std::span(three)};
  EXPECT_THROW(span.slice(1, 3), CheckError);
  EXPECT_THROW(span.slice(-1, 1), CheckError);
  EXPECT_EQ(span.slice(3, 0).count, 0);
}

TEST_F(MpiFloat, KnowsItsNameAndWorld) {
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  EXPECT_EQ(comm_->name(), "mpi");
  EXPECT_EQ(size_, size);
  comm_->check_async_error();
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) { return lockstep::run_mpi_tests(argc, argv); }
