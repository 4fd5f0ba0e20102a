// One owner, closed once.
#include "files/descriptor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <utility>

namespace lockstep {
namespace {

bool is_open(int value) { return ::fcntl(value, F_GETFD) >= 0; }
Descriptor open_null() { return Descriptor(::open("/dev/null", O_RDONLY)); }

TEST(DescriptorTest, ClosesWhenItsOwnerGoes) {
  int value = -1;
  {
    const Descriptor file = open_null();
    value = file.get();
    EXPECT_TRUE(is_open(value));
  }
  EXPECT_FALSE(is_open(value));
  EXPECT_FALSE(Descriptor());
}

TEST(DescriptorTest, MovingLeavesNothingBehind) {
  Descriptor a = open_null(), b = open_null();
  const int first = a.get(), second = b.get();
  a = std::move(b);
  EXPECT_EQ(a.get(), second);
  EXPECT_FALSE(is_open(first));
  Descriptor c = std::move(a);
  EXPECT_TRUE(is_open(second));
  EXPECT_EQ(c.release(), second);
  EXPECT_FALSE(c);
  EXPECT_TRUE(is_open(second));
  Descriptor(second).reset();
  EXPECT_FALSE(is_open(second));
}

}  // namespace
}  // namespace lockstep
