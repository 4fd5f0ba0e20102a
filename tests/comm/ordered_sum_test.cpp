// The same bits at every world size, and shares that cover all chunks in order.
#include "comm/ordered_sum.h"

#include "comm/mpi_main.h"

#include <cmath>

namespace lockstep {
namespace {

// Numbers whose sum depends on the order: a rounding at every addition.
double number(std::int64_t chunk, std::size_t which) {
  const double x = static_cast<double>(chunk + 1) * (which == 0 ? 0.1 : 1e17);
  return chunk % 3 == 0 ? -std::sqrt(x) : x;
}

TEST(OrderedSum, DoesNotDependOnTheNumberOfRanks) {
  const auto world = make_mpi_world(30.0);
  for (const std::int64_t chunks : {0, 1, 3, 1000}) {
    const ChunkRange own = own_chunks(chunks, world->rank(), world->size());
    std::vector<double> mine;
    for (std::int64_t c = own.begin; c < own.end; ++c) {
      mine.push_back(number(c, 0));
      mine.push_back(number(c, 1));
    }
    double expected[2] = {0.0, 0.0};
    for (std::int64_t c = 0; c < chunks; ++c) {
      expected[0] += number(c, 0);
      expected[1] += number(c, 1);
    }
    const std::vector<double> sums = ordered_sum(mine, chunks, 2, *world);
    EXPECT_EQ(sums, (std::vector<double>{expected[0], expected[1]})) << chunks;
  }
}

TEST(OrderedSum, SharesAreConsecutiveAndEven) {
  for (const int world : {1, 2, 3, 7}) {
    std::int64_t next = 0;
    for (int rank = 0; rank < world; ++rank) {
      const ChunkRange own = own_chunks(20, rank, world);
      EXPECT_EQ(own.begin, next);
      EXPECT_LE(std::abs(own.count() - 20 / world), 1);
      next = own.end;
    }
    EXPECT_EQ(next, 20);
  }
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) { return lockstep::run_mpi_tests(argc, argv); }
