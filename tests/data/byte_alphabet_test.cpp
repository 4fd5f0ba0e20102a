// Each byte is one printable character and comes back.
#include "data/byte_alphabet.h"

#include <gtest/gtest.h>

#include <set>

namespace lockstep {
namespace {

TEST(ByteAlphabet, EveryByteComesBack) {
  std::set<std::string> characters;
  for (int value = 0; value < 256; ++value) {
    const std::string byte(1, static_cast<char>(value));
    std::string back;
    characters.insert(to_alphabet(byte));
    EXPECT_TRUE(from_alphabet(back, to_alphabet(byte)));
    EXPECT_EQ(back, byte);
  }
  EXPECT_EQ(characters.size(), 256U);
  EXPECT_EQ(to_alphabet("a b\n"),
            "a\xc4\xa0"
            "b\xc4\x8a");
}

TEST(ByteAlphabet, OtherCharactersAreNotOfIt) {
  std::string bytes = "kept";
  EXPECT_FALSE(from_alphabet(bytes, "a b"));
  EXPECT_FALSE(from_alphabet(bytes, "\xe2\x82\xac"));
  EXPECT_FALSE(from_alphabet(bytes, "\xff"));
  EXPECT_EQ(bytes, "kept");
}

TEST(ByteAlphabet, TheOrderIsThatOfTheCharacters) {
  const auto order = alphabet_order();
  EXPECT_EQ(order[0], '!');
  EXPECT_EQ(std::set<std::uint8_t>(order.begin(), order.end()).size(), 256U);
}

}  // namespace
}  // namespace lockstep
