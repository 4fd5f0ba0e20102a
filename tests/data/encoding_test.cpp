// Encodings told by their first bytes.
#include "data/encoding.h"

#include <gtest/gtest.h>

#include <string>

namespace lockstep {
namespace {

std::string repeated(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

std::string utf16(const std::string& ascii) {
  std::string text;
  for (const char c : ascii) (text += c) += '\0';
  return text;
}

TEST(Encoding, Utf8AndWhatIsDamagedOfIt) {
  EXPECT_EQ(guess_encoding(""), "UTF-8");
  EXPECT_EQ(guess_encoding("plain"), "UTF-8");
  const std::string words = repeated(
      "Gr\xc3\xbc\xc3\x9f"
      "e \xe4\xb8\xad\n",
      10000);
  for (std::size_t cut = 0; cut < 8; ++cut) {
    EXPECT_EQ(guess_encoding(std::string_view(words).substr(0, 60000 + cut)), "UTF-8");
  }
  EXPECT_EQ(guess_encoding(words + "\xff" + words), "UTF-8");
  EXPECT_EQ(guess_encoding(repeated("x", 60000) + "\xe9" + "x"), "UTF-8");
}

TEST(Encoding, OthersAreTold) {
  EXPECT_EQ(guess_encoding("\xff\xfe" + utf16("text")), "UTF-16");
  EXPECT_EQ(guess_encoding("\xfe\xff"), "UTF-16");
  EXPECT_EQ(guess_encoding(utf16("without a mark")), "UTF-16LE");
  EXPECT_EQ(guess_encoding(std::string("\xff\xfe\0\0a\0\0\0", 8)), "UTF-32");
  EXPECT_EQ(guess_encoding("Gr\xfc\xdf"
                           "e aus M\xfcnchen\n"),
            "WINDOWS-1252");
  EXPECT_EQ(guess_encoding(repeated("one \xe9 in a hundred ", 5) + repeated("x", 400)),
            "WINDOWS-1252");
}

}  // namespace
}  // namespace lockstep
