// Only numbers and half surrogate pairs change, and only outside or inside strings respectively.
#include "data/json_relax.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

std::string relaxed(std::string_view line) { return relaxed_json(line, "\\ufffd"); }

TEST(JsonRelax, NumbersOfAllKindsBecomeZero) {
  EXPECT_EQ(relaxed("{\"a\": NaN, \"b\": [-Infinity, Infinity, 1e999, -0.5E+3, 7]}"),
            "{\"a\": 0  , \"b\": [0        , 0       , 0    , 0      , 0]}");
  EXPECT_EQ(relaxed("{\"NaN 1e999\": \"-Infinity 12 \\\" 5\"}"),
            "{\"NaN 1e999\": \"-Infinity 12 \\\" 5\"}");
  for (const char* bad : {"[1.]", "[.]", "[1e]", "[-]", "[nan]", "{\"a\": tru}", "\"open \\"}) {
    EXPECT_EQ(relaxed(bad), bad);
  }
}

TEST(JsonRelax, HalvesOfPairsAreReplaced) {
  EXPECT_EQ(relaxed(R"("\ud83d\ude00 \uD83D \ude00\ud83d")"),
            R"("\ud83d\ude00 \ufffd \ufffd\ufffd")");
  EXPECT_EQ(relaxed(R"("\ud83d\u0041\\ud83d \u12")"), R"("\ufffd\u0041\\ud83d \u12")");
  EXPECT_EQ(relaxed_json(R"("a\udc00b")", "\\u0020"), R"("a\u0020b")");
}

}  // namespace
}  // namespace lockstep
