// Strict decoding, and where valid and invalid stretches end.
#include "core/utf8.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

TEST(Utf8, EncodingAndDecodingAreInverse) {
  for (const char32_t value :
       {0x0, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x10ffff}) {
    std::string text;
    append_utf8(text, value);
    const CodePoint point = decode_utf8(text, 0);
    EXPECT_EQ(point.value, value);
    EXPECT_EQ(point.bytes, text.size());
  }
}

TEST(Utf8, OverlongFormsSurrogatesAndCutCharactersAreInvalid) {
  for (const char* bad : {"\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\x80",
                          "\xff", "\xe4\xb8", ""}) {
    EXPECT_EQ(decode_utf8(bad, 0).bytes, 0U) << bad;
  }
}

TEST(Utf8, StretchesEndWhereTheOtherKindBegins) {
  const std::string text = "a long run of ascii \xe4\xb8\xad\xff\xfe\x80 b";
  EXPECT_EQ(valid_stretch(text, 0), 23U);
  EXPECT_EQ(invalid_stretch(text, 23), 3U);
  EXPECT_EQ(valid_stretch(text, 26), 2U);
  EXPECT_EQ(invalid_stretch(text, 28), 0U);
}

}  // namespace
}  // namespace lockstep
