// Hash128: stable across versions and machines, and sensitive to every bit, length and cut.
#include "data/hash.h"

#include <gtest/gtest.h>

#include <set>

namespace lockstep {
namespace {

std::string hash_of(std::string_view text) {
  Hash128 hash;
  hash.add(text);
  return hash.hex();
}

TEST(Hash128, IsStable) {
  // Checkpoints hold fingerprints: these values must never change.
  EXPECT_EQ(hash_of(""), "52d43ecf962cf4ad9fe85ddead3322e5");
  EXPECT_EQ(hash_of("lockstep"), "f8493c8f47e5bbd319d16e935914999d");
}

TEST(Hash128, EveryBitAndLengthCounts) {
  std::set<std::string> seen;
  std::string text(37, 'a');
  for (std::size_t length = 0; length <= text.size(); ++length) {
    EXPECT_TRUE(seen.insert(hash_of(std::string_view(text).substr(0, length))).second);
  }
  for (std::size_t bit = 0; bit < text.size() * 8; ++bit) {
    std::string changed = text;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_TRUE(seen.insert(hash_of(changed)).second) << "bit " << bit;
  }
  EXPECT_TRUE(seen.insert(hash_of(text + '\0')).second);
}

TEST(Hash128, OrderOfAddsCounts) {
  Hash128 a, b;
  a.add(std::int64_t{1});
  a.add(std::int64_t{2});
  b.add(std::int64_t{2});
  b.add(std::int64_t{1});
  EXPECT_NE(a.hex(), b.hex());
  EXPECT_EQ(a.hex().substr(16), [&] {
    char low[17];
    std::snprintf(low, sizeof low, "%016llx", static_cast<unsigned long long>(a.low()));
    return std::string(low);
  }());
}

}  // namespace
}  // namespace lockstep
