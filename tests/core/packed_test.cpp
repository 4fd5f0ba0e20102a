// What is packed comes back; bytes of something else are refused.
#include "core/packed.h"

#include <gtest/gtest.h>

namespace lockstep {
namespace {

struct Pair {
  std::int64_t a = 0;
  double b = 0.0;
};

TEST(Packed, NumbersTextsAndListsComeBack) {
  Packer packer;
  packer.put(std::int64_t{-7});
  packer.put(std::string("two\nlines\0and more", 18));
  packer.put(std::vector<std::string>{"", "a", "\n"});
  packer.put(std::vector<Pair>{{1, 0.5}, {2, -0.25}});
  packer.put(std::vector<std::string>{});
  Unpacker unpacker(packer.bytes());
  std::int64_t number = 0;
  std::string text;
  std::vector<std::string> texts, none = {"x"};
  std::vector<Pair> pairs;
  unpacker.get(number);
  unpacker.get(text);
  unpacker.get(texts);
  unpacker.get(pairs);
  EXPECT_FALSE(unpacker.done());
  unpacker.get(none);
  EXPECT_TRUE(unpacker.done());
  EXPECT_EQ(number, -7);
  EXPECT_EQ(text, std::string("two\nlines\0and more", 18));
  EXPECT_EQ(texts, (std::vector<std::string>{"", "a", "\n"}));
  ASSERT_EQ(pairs.size(), 2u);
  EXPECT_EQ(pairs[1].a, 2);
  EXPECT_EQ(pairs[1].b, -0.25);
  EXPECT_TRUE(none.empty());
}

TEST(Packed, WhatIsNotThereIsNotRead) {
  Packer packer;
  packer.put(std::uint64_t{1} << 60);
  std::string text;
  EXPECT_THROW(Unpacker(packer.bytes()).get(text), CheckError);
  std::vector<std::int32_t> list;
  EXPECT_THROW(Unpacker(packer.bytes()).get(list), CheckError);
  std::int64_t number = 0;
  EXPECT_THROW(Unpacker("short").get(number), CheckError);
}

}  // namespace
}  // namespace lockstep
