// Scores by hand, and which channels they keep.
#include "compress/unit_rank.h"

#include "support/support.h"

#include <cmath>

namespace lockstep {
namespace {

using Kept = std::vector<std::size_t>;

// Three channels, two hidden values.
const std::vector<float> kOut{1.0f, -2.0f, 0.5f, 3.0f, 0.0f, 0.5f};
const std::vector<double> kSquares{4.0, 0.25, 16.0};
const UnitView kView{.units = 3,
                     .rows = {{1.0f, 1.0f, -2.0f, 0.0f, 0.0f, 3.0f}},
                     .out = kOut,
                     .squares = kSquares,
                     .key = 7};

TEST(UnitRank, Scores) {
  EXPECT_EQ(unit_scores("l1", kView), (std::vector<double>{6.0, 4.0, 4.0}));
  EXPECT_EQ(unit_scores("l2", kView), (std::vector<double>{12.0, 8.0, 9.5}));
  const std::vector<double> wanda = unit_scores("wanda", kView);
  EXPECT_DOUBLE_EQ(wanda[0], 2.0 * std::sqrt(10.0));
  EXPECT_DOUBLE_EQ(wanda[1], 0.5 * 2.0);
  EXPECT_DOUBLE_EQ(wanda[2], 4.0 * std::sqrt(0.5));
}

// The same numbers as two units of one row of three and of three columns.
TEST(UnitRank, UnitsOfSeveralColumns) {
  const std::vector<float> out{1.0f, -2.0f, 0.5f, 3.0f, 0.0f, 0.5f};
  const std::vector<double> squares{4.0, 0.25, 16.0, 1.0, 2.0, 4.0};
  UnitView view = kView;
  view.units = 2;
  view.out = out;
  view.squares = squares;
  EXPECT_EQ(unit_scores("l1", view), (std::vector<double>{3.5 + 4.0, 3.5 + 3.0}));
  const std::vector<double> wanda = unit_scores("wanda", view);
  EXPECT_DOUBLE_EQ(wanda[0], std::sqrt(4.0 + 1.0 + 4.0));
  EXPECT_DOUBLE_EQ(wanda[1], std::sqrt(9.0 + 0.0 + 1.0));
}

TEST(UnitRank, RandomIsByKey) {
  UnitView other = kView;
  EXPECT_EQ(unit_scores("random", kView), unit_scores("random", other));
  other.key = 8;
  EXPECT_NE(unit_scores("random", kView), unit_scores("random", other));
}

TEST(UnitRank, KeepsTheBestInTheirOrder) {
  EXPECT_EQ(best_units(std::vector<double>{1.0, 5.0, 2.0, 5.0}, 2), (Kept{1, 3}));
  EXPECT_EQ(best_units(std::vector<double>{2.0, 2.0, 2.0}, 2), (Kept{0, 1}));
}

}  // namespace
}  // namespace lockstep
