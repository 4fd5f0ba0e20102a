// Pages of the cache: who has which, what the kernels are told, and what comes back when a sequence
// is forgotten.
#include "nn/kv_cache.h"

#include "nn/model.h"
#include "support/support.h"

namespace lockstep {
namespace {

constexpr std::int64_t kPage = KvCache::kPageTokens;

std::vector<std::int32_t> values(const Tensor& tensor) {
  const auto* data = tensor.as<std::int32_t>();
  return {data, data + tensor.count()};
}

struct Rig {
  Rig() : machine(test::open_cpu()), arena(*machine.device) {
    // Three sequences of up to two and a half pages, four pages for all.
    cache = KvCache(3, 2 * kPage + kPage / 2, 4 * kPage, 4 * kPage, arena);
  }
  KvCache::Call append(const std::vector<std::pair<std::int64_t, std::int64_t>>& counts) {
    text.assign(static_cast<std::size_t>(4 * kPage), 7);
    std::vector<SequenceInput> inputs;
    for (const auto& [sequence, count] : counts) {
      inputs.push_back({sequence, std::span(text).first(static_cast<std::size_t>(count))});
    }
    return cache.append(inputs, *machine.stream);
  }

  test::Machine machine;
  Arena arena;
  KvCache cache;
  std::vector<std::int32_t> text;
};

TEST(KvCache, TellsTheKernelsWhereEverythingLies) {
  Rig rig;
  rig.append({{0, 3}});
  const KvCache::Call call = rig.append({{2, kPage + 1}, {0, 2}});
  EXPECT_EQ(rig.cache.length(0), 5);
  EXPECT_EQ(rig.cache.length(2), kPage + 1);
  EXPECT_EQ(call.last_rows, (std::vector<std::int64_t>{kPage, kPage + 2}));
  EXPECT_EQ(values(call.batch.query_starts), (std::vector<std::int32_t>{0, kPage + 1, kPage + 3}));
  EXPECT_EQ(values(call.batch.kv_lens), (std::vector<std::int32_t>{kPage + 1, 5}));
  // Three pages a sequence at most; sequence 0 took page 0 first, sequence 2 then 1 and 2.
  EXPECT_EQ(values(call.batch.page_table), (std::vector<std::int32_t>{1, 2, 0, 0, 0, 0}));
  std::vector<std::int32_t> positions = values(call.positions);
  ASSERT_EQ(positions.size(), static_cast<std::size_t>(2 * kPage));  // filled up
  EXPECT_EQ(positions[kPage], kPage);
  EXPECT_EQ(positions[kPage + 1], 3);  // sequence 0 goes on
  EXPECT_EQ(positions[kPage + 2], 4);
  EXPECT_EQ(positions[kPage + 3], 0);
}

TEST(KvCache, RoomIsTheSequencesOwnAndWhatIsFree) {
  Rig rig;
  EXPECT_EQ(rig.cache.room(0), 2 * kPage + kPage / 2);
  rig.append({{0, 2 * kPage + 1}});  // three of four pages
  EXPECT_EQ(rig.cache.room(0), kPage / 2 - 1);
  EXPECT_EQ(rig.cache.room(1), kPage);
  EXPECT_THROW(rig.append({{1, kPage + 1}}), CheckError);
  rig.append({{1, kPage}});
  EXPECT_EQ(rig.cache.room(2), 0);
  rig.cache.forget(0);
  EXPECT_EQ(rig.cache.length(0), 0);
  EXPECT_EQ(rig.cache.room(2), 2 * kPage + kPage / 2);
  EXPECT_EQ(rig.cache.room(1), 2 * kPage + kPage / 2 - kPage);
}

// Each has room alone, but not both.
TEST(KvCache, TooFewPagesForAll) {
  Rig rig;
  EXPECT_THROW(rig.append({{0, 2 * kPage + 1}, {1, 2 * kPage + 1}}), CheckError);
  EXPECT_THROW(rig.cache.length(3), CheckError);
}

}  // namespace
}  // namespace lockstep
