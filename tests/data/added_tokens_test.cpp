// Added tokens are found from left to right, the longest first.
#include "data/added_tokens.h"

#include <gtest/gtest.h>

#include <array>

namespace lockstep {
namespace {

using Spans = std::vector<std::array<std::size_t, 3>>;  // start, end, id

Spans find(const TokenMatcher& matcher, std::string_view text) {
  std::vector<TokenMatch> matches;
  matcher.find(matches, text);
  Spans spans;
  for (const TokenMatch& match : matches) {
    spans.push_back({match.start, match.end, static_cast<std::size_t>(match.id)});
  }
  return spans;
}

TEST(AddedTokens, TheLongestOfThoseAtAPlaceCounts) {
  const TokenMatcher matcher({{.text = "<a>", .id = 1}, {.text = "<a>b", .id = 2}});
  EXPECT_EQ(find(matcher, "x<a>b<a>"), (Spans{{1, 5, 2}, {5, 8, 1}}));
  EXPECT_EQ(find(matcher, "<a"), Spans{});
  EXPECT_TRUE(matcher.touches("x<a", 3));  // may go on
  EXPECT_FALSE(matcher.touches("x<b", 1));
}

TEST(AddedTokens, SpacesAndWordsAroundThem) {
  const TokenMatcher matcher({{.text = "[L]", .id = 1, .lstrip = true},
                              {.text = "[R]", .id = 2, .rstrip = true},
                              {.text = "word", .id = 3, .single_word = true}});
  EXPECT_EQ(find(matcher, "a  [L] b"), (Spans{{1, 6, 1}}));
  EXPECT_EQ(find(matcher, "a [R]  b"), (Spans{{2, 7, 2}}));
  EXPECT_EQ(find(matcher, "words word."), (Spans{{6, 10, 3}}));
}

TEST(AddedTokens, NoneAtAll) {
  EXPECT_TRUE(TokenMatcher().empty());
  EXPECT_EQ(find(TokenMatcher(), "text"), Spans{});
}

}  // namespace
}  // namespace lockstep
