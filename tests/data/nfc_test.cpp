// Form C, and where text may be normalized in two halves.
#include "data/nfc.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

std::string composed(std::string_view text) {
  std::string buffer;
  return std::string(nfc(text, buffer));
}

TEST(Nfc, ComposesWhatIsApart) {
  EXPECT_EQ(composed("cafe\xcc\x81"), "caf\xc3\xa9");
  EXPECT_EQ(composed("\xe1\x84\x80\xe1\x85\xa1"), "\xea\xb0\x80");  // Hangul
  EXPECT_EQ(composed("\xe2\x84\xab"), "\xc3\x85");                  // the angstrom sign
}

TEST(Nfc, NormalTextIsNotCopied) {
  const std::string text = "plain, caf\xc3\xa9";
  std::string buffer;
  EXPECT_EQ(nfc(text, buffer).data(), text.data());
}

TEST(Nfc, MarksStartNoSegment) {
  EXPECT_TRUE(starts_segment('a'));
  EXPECT_TRUE(starts_segment(' '));
  EXPECT_FALSE(starts_segment(0x301));
  EXPECT_FALSE(starts_segment(0x1161));  // a vowel of Hangul
}

}  // namespace
}  // namespace lockstep
