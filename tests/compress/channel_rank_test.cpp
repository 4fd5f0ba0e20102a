// Scores by hand, and which channels they keep.
#include "compress/channel_rank.h"

#include "support/support.h"

#include <cmath>

namespace lockstep {
namespace {

using Kept = std::vector<std::size_t>;

// Three channels, two hidden values.
const std::vector<float> kOut{1.0f, -2.0f, 0.5f, 3.0f, 0.0f, 0.5f};
const std::vector<double> kSquares{4.0, 0.25, 16.0};
const ChannelView kView{
    .rows = {{1.0f, 1.0f, -2.0f, 0.0f, 0.0f, 3.0f}}, .out = kOut, .squares = kSquares, .key = 7};

TEST(ChannelRank, Scores) {
  EXPECT_EQ(channel_scores("l1", kView), (std::vector<double>{6.0, 4.0, 4.0}));
  EXPECT_EQ(channel_scores("l2", kView), (std::vector<double>{12.0, 8.0, 9.5}));
  const std::vector<double> wanda = channel_scores("wanda", kView);
  EXPECT_DOUBLE_EQ(wanda[0], 2.0 * std::sqrt(10.0));
  EXPECT_DOUBLE_EQ(wanda[1], 0.5 * 2.0);
  EXPECT_DOUBLE_EQ(wanda[2], 4.0 * std::sqrt(0.5));
}

TEST(ChannelRank, RandomIsByKey) {
  ChannelView other = kView;
  EXPECT_EQ(channel_scores("random", kView), channel_scores("random", other));
  other.key = 8;
  EXPECT_NE(channel_scores("random", kView), channel_scores("random", other));
}

TEST(ChannelRank, KeepsTheBestInTheirOrder) {
  EXPECT_EQ(best_channels(std::vector<double>{1.0, 5.0, 2.0, 5.0}, 2), (Kept{1, 3}));
  EXPECT_EQ(best_channels(std::vector<double>{2.0, 2.0, 2.0}, 2), (Kept{0, 1}));
}

}  // namespace
}  // namespace lockstep
