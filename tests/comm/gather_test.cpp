// Lists of any length and content from every rank.
#include "comm/gather.h"

#include "comm/mpi_main.h"

namespace lockstep {
namespace {

std::vector<std::string> texts_of(int rank) {
  std::vector<std::string> texts(static_cast<std::size_t>(rank),
                                 "of rank\n" + std::to_string(rank));
  texts.emplace_back("\0", 1);
  texts.emplace_back();
  return texts;
}

TEST(Gather, EveryRankHearsEveryList) {
  const auto world = make_mpi_world(30.0);
  const auto texts = all_gather_packed(*world, texts_of(world->rank()));
  const auto numbers = all_gather_packed(
      *world, std::vector<std::int64_t>(static_cast<std::size_t>(world->rank()), -7));
  ASSERT_EQ(texts.size(), static_cast<std::size_t>(world->size()));
  for (int rank = 0; rank < world->size(); ++rank) {
    const auto at = static_cast<std::size_t>(rank);
    EXPECT_EQ(texts[at], texts_of(rank));
    EXPECT_EQ(numbers[at], std::vector<std::int64_t>(at, -7));
  }
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) { return lockstep::run_mpi_tests(argc, argv); }
