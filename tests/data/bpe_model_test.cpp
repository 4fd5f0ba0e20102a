// Merging of one piece: ranks, missing bytes, the cache.
#include "data/bpe_model.h"

#include <gtest/gtest.h>

#include <numeric>

namespace lockstep {
namespace {

using Ids = std::vector<std::int32_t>;

BpeBytes all_bytes() {
  BpeBytes bytes;
  std::iota(bytes.ids.begin(), bytes.ids.end(), 0);
  return bytes;
}

struct Encoded {
  Ids ids;
  std::size_t dropped = 0;
};

Encoded encode(const BpeModel& model, std::string_view piece) {
  BpeScratch scratch;
  Encoded first, again;
  first.dropped = model.encode(piece, scratch, first.ids);
  again.dropped = model.encode(piece, scratch, again.ids);  // from the cache, if it is there
  EXPECT_EQ(first.ids, again.ids);
  EXPECT_EQ(first.dropped, again.dropped);
  return first;
}

TEST(BpeModel, TheLowestRankJoinsFirst) {
  const BpeModel model(all_bytes(), {{'b', 'c', 256}, {'a', 'b', 257}, {'a', 256, 258}}, {});
  EXPECT_EQ(encode(model, "abc").ids, Ids{258});
  EXPECT_EQ(encode(model, "ab").ids, Ids{257});
  EXPECT_EQ(encode(model, "a").ids, Ids{'a'});
  EXPECT_EQ(encode(model, std::string(99, 'x') + "bc").ids.back(), 256);  // the heap's way
}

TEST(BpeModel, WholePiecesMayStandAsTheyAre) {
  EXPECT_EQ(encode(BpeModel(all_bytes(), {}, {{"ab", 300}}), "ab").ids, Ids{300});
}

TEST(BpeModel, MissingBytesAreDroppedOrUnknown) {
  BpeBytes bytes = all_bytes();
  bytes.ids['x'] = -1;
  const std::vector<BpeMerge> merges = {{'a', 'b', 256}};
  const Encoded dropped = encode(BpeModel(bytes, merges, {}), "axxb");
  EXPECT_EQ(dropped.ids, Ids{256});
  EXPECT_EQ(dropped.dropped, 2U);
  EXPECT_EQ(encode(BpeModel(bytes, merges, {}), "x").dropped, 1U);
  bytes.unknown = 299;
  EXPECT_EQ(encode(BpeModel(bytes, merges, {}), "axxb").ids, (Ids{'a', 299, 299, 'b'}));
  bytes.fuse_unknown = true;
  EXPECT_EQ(encode(BpeModel(bytes, merges, {}), "axxb").ids, (Ids{'a', 299, 'b'}));
}

}  // namespace
}  // namespace lockstep
