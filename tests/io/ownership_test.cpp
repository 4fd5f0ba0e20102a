// Who stores which rows: every row once, even shares of what every rank holds, and rows that only
// one rank holds stay with it without the checkpoint becoming another one.
#include "io/fixture.h"
#include "io/state_digest.h"

#include <algorithm>

namespace lockstep {
namespace {

using testing::State;

State uneven_state() {
  State state;
  state.add("model/a", {1000, 150});
  state.add("model/b", {3});
  state.add("model/c", {3, 10485});
  state.add("optimizer/m/a", {1000, 150});
  state.add("optimizer/m/b", {3});
  state.meta = testing::sample_meta(3);
  return state;
}

std::int64_t bytes_of(const State& state, const std::vector<RowRange>& ranges) {
  std::int64_t bytes = 0;
  for (const RowRange& range : ranges) bytes += range.rows * row_bytes(state.tensors[range.tensor]);
  return bytes;
}

TEST(Ownership, EveryRowHasOneOwnerAndSharesAreEven) {
  const State state = uneven_state();
  std::int64_t total = 0;
  std::int64_t largest_row = 0;
  for (const StateTensor& tensor : state.tensors) {
    total += tensor_bytes(tensor);
    largest_row = std::max(largest_row, row_bytes(tensor));
  }
  for (const int ranks : {1, 2, 3, 5, 8, 64, 5000}) {
    const std::vector<OwnedRange> ranges = assign_rows(state.tensors, ranks);
    std::vector<std::vector<RowRange>> by_rank;
    for (int rank = 0; rank < ranks; ++rank) {
      by_rank.push_back(rows_of(rank, ranges));
      EXPECT_LE(bytes_of(state, by_rank.back()), total / ranks + largest_row + 1) << ranks;
    }
    const auto error = coverage_error(state.tensors, by_rank);
    EXPECT_FALSE(error) << *error;
  }
}

// A sharded optimizer: rank 0 holds the moments' first 300 rows, rank 2 the rest.
TEST(Ownership, RowsThatOneRankHoldsAreSavedByIt) {
  const State state = uneven_state();
  const std::vector<OwnedRange> held = {{{3, 0, 300}, 0}, {{3, 300, 700}, 2}, {{4, 0, 3}, 2}};
  const std::vector<OwnedRange> ranges = assign_rows(state.tensors, 3, held);
  for (const OwnedRange& range : ranges) {
    if (range.rows.tensor < 3) continue;
    EXPECT_EQ(range.owner, range.rows.row_begin == 0 && range.rows.tensor == 3 ? 0 : 2);
  }
  testing::ScratchDirectory scratch;
  const std::string temporary = make_temporary_checkpoint(scratch.path(), state.meta.step);
  std::vector<ShardRecord> records;
  for (int rank = 0; rank < 3; ++rank) {
    records.push_back(write_shard(temporary, rank, 3, state.tensors, rows_of(rank, ranges),
                                  state.source(), state.meta));
  }
  const std::string path = publish_checkpoint(scratch.path(), temporary, state.tensors, records,
                                              state.meta, /*tokenizer=*/{});
  verify_checkpoint(path, VerifyLevel::kDeep);
  const std::string plain = testing::save(scratch / "plain", state, 1);
  EXPECT_EQ(CheckpointReader(path).digest(), CheckpointReader(plain).digest());
}

TEST(Ownership, RowsWithoutAnOwnerOrInTheWrongOrderAreACheckError) {
  const State state = uneven_state();
  const auto assign = [&](const std::vector<OwnedRange>& held) {
    return assign_rows(state.tensors, 2, held);
  };
  EXPECT_THROW(assign({{{3, 0, 300}, 0}}), CheckError);  // 700 rows are nobody's
  EXPECT_THROW(assign({{{3, 0, 300}, 1}, {{3, 300, 700}, 0}}), CheckError);  // owners descend
  EXPECT_THROW(assign({{{3, 0, 1000}, 2}}), CheckError);                     // no such rank
}

TEST(Ownership, ProgressIsReportedWhileAShardIsWritten) {
  const State state = uneven_state();
  testing::ScratchDirectory scratch;
  int calls = 0;
  write_shard(scratch.path(), 0, 1, state.tensors, rows_of(0, assign_rows(state.tensors, 1)),
              state.source(), state.meta, [&] { ++calls; });
  EXPECT_GE(calls, static_cast<int>(state.tensors.size()) + 1);  // each tensor, and the hash
}

}  // namespace
}  // namespace lockstep
