// Matches in UTF-8 text, and patterns that would search for ever.
#include "data/regex.h"

#include "fixture.h"

namespace lockstep {
namespace {

using test::expect_error;

TEST(Regex, FindsTheFirstMatchFromAPlaceOn) {
  const Regex regex("\\p{L}+", "FILE");
  RegexScratch scratch;
  std::size_t start = 0;
  std::size_t end = 0;
  const std::string text = "1 na\xc3\xafve 2 x";
  ASSERT_TRUE(regex.find(start, end, scratch, text, 0));
  EXPECT_EQ(text.substr(start, end - start), "na\xc3\xafve");
  ASSERT_TRUE(regex.find(start, end, scratch, text, end));
  EXPECT_EQ(text.substr(start, end - start), "x");
  EXPECT_FALSE(regex.find(start, end, scratch, text, end));
}

TEST(Regex, BacktrackingWithoutEndIsAnError) {
  const Regex regex("(?:a+)+[^\\Sa]b", "FILE");
  RegexScratch scratch;
  std::size_t start = 0;
  std::size_t end = 0;
  expect_error(ExitCode::kData, {"FILE: the regular expression", "too many steps"},
               [&] { regex.find(start, end, scratch, std::string(200, 'a') + "xb", 0); });
}

}  // namespace
}  // namespace lockstep
