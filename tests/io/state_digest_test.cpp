// The state digest against an independent computation from its written definition, its sensitivity
// to everything it covers.
#include "io/state_digest.h"

#include "io/fixture.h"

#include <algorithm>
#include <bit>

namespace lockstep {
namespace {

using testing::State;

std::string digest_at(const State& state, int shards) {
  testing::ScratchDirectory scratch;
  const auto ranges = assign_rows(state.tensors, shards);
  std::vector<ShardRecord> records;
  for (int i = 0; i < shards; ++i) {
    records.push_back(write_shard(scratch.path(), i, shards, state.tensors, rows_of(i, ranges),
                                  state.source(), state.meta));
  }
  return state_digest(state.tensors, records, state.meta);
}

std::string raw(const std::string& hex) {
  std::string text;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    text += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  }
  return text;
}

// docs/checkpoint_format.md, followed word by word.
std::string digest_by_definition(const State& state) {
  std::vector<std::string> lines;
  for (std::size_t t = 0; t < state.tensors.size(); ++t) {
    const std::string data(reinterpret_cast<const char*>(state.bytes[t].data()),
                           state.bytes[t].size());
    std::string hashes;
    for (std::size_t at = 0; at < data.size(); at += 4194304) {
      hashes += raw(sha256_text(data.substr(at, 4194304)));
    }
    std::string shape = "[";
    for (int axis = 0; axis < state.tensors[t].shape.rank(); ++axis) {
      shape += (axis > 0 ? "," : "") + std::to_string(state.tensors[t].shape[axis]);
    }
    lines.push_back(state.tensors[t].name + " " + std::string(name_of(state.tensors[t].dtype)) +
                    " " + shape + "] " + sha256_text(hashes) + "\n");
  }
  const CheckpointMeta& meta = state.meta;
  const std::pair<const char*, std::int64_t> scalars[] = {{"step", meta.step},
                                                          {"updates", meta.updates},
                                                          {"tokens", meta.tokens},
                                                          {"data_counter", meta.data_counter},
                                                          {"good_steps", meta.good_steps},
                                                          {"skips_in_row", meta.skips_in_row},
                                                          {"skipped", meta.skipped}};
  for (const auto& [name, value] : scalars) {
    lines.push_back(std::string("state/") + name + " int64 [] " + std::to_string(value) + "\n");
  }
  lines.push_back(fmt::format("state/loss_scale fp64 [] {:016x}\n",
                              std::bit_cast<std::uint64_t>(meta.loss_scale)));
  std::sort(lines.begin(), lines.end());
  std::string all;
  for (const std::string& line : lines) all += line;
  return sha256_text(all);
}

TEST(Sha256, PublishedValue) {
  EXPECT_EQ(sha256_text("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_FALSE(digest_from_hex(std::string(64, 'A')));
  EXPECT_FALSE(digest_from_hex(std::string(63, 'a')));
}

// Tensors around the chunk size, rows that do not divide it, and a row of several chunks.
State chunky_state() {
  State state;
  state.add("model/a", {1000, 1500});           // 5.7 MiB, rows of 6000 bytes
  state.add("model/b", {3});                    // less than any row of the others
  state.add("model/c", {3, 1048576});           // rows of exactly one chunk
  state.add("optimizer/m/a", {2, 2, 300001});   // rows of 2.3 MiB
  state.add("model/d", {4194305}, DType::kU8);  // one byte more than a chunk
  state.meta = testing::sample_meta(3);
  return state;
}

TEST(StateDigest, FollowsTheDefinitionAtAnyWorldSize) {
  const State state = chunky_state();
  const std::string expected = digest_by_definition(state);
  for (const int shards : {1, 2, 3, 5}) EXPECT_EQ(digest_at(state, shards), expected) << shards;
}

TEST(StateDigest, CoversTheState) {
  const State state = testing::small_state();
  const std::string digest = digest_at(state, 1);
  const auto expect_change = [&](auto&& change) {
    State other = state;
    change(other);
    EXPECT_NE(digest_at(other, 1), digest);
  };
  expect_change([](State& s) { s.bytes[4].back() ^= std::byte{1}; });
  expect_change([](State& s) { s.tensors[0].name = "model/wte.weigth"; });
  expect_change([](State& s) { s.tensors[0].shape = {6, 13}; });
  expect_change([](State& s) { s.tensors[2].dtype = DType::kF16; });
  expect_change([](State& s) { ++s.meta.step; });
  expect_change([](State& s) { ++s.meta.updates; });
  expect_change([](State& s) { ++s.meta.tokens; });
  expect_change([](State& s) { ++s.meta.data_counter; });
  expect_change([](State& s) { s.meta.loss_scale *= 2; });
  expect_change([](State& s) { ++s.meta.good_steps; });
  expect_change([](State& s) { ++s.meta.skips_in_row; });
  expect_change([](State& s) { ++s.meta.skipped; });
  State same = state;
  same.meta.time = "later";
  same.meta.world_size = 9;
  same.meta.run_id = "another";
  EXPECT_EQ(digest_at(same, 1), digest);
}

TEST(StateDigest, AMissingOrDoubleChunkIsACheckError) {
  const State state = testing::small_state();
  testing::ScratchDirectory scratch;
  ShardRecord record =
      write_shard(scratch.path(), 0, 1, state.tensors, rows_of(0, assign_rows(state.tensors, 1)),
                  state.source(), state.meta);
  EXPECT_THROW(state_digest(state.tensors, {record, record}, state.meta), CheckError);
  record.chunks.pop_back();
  EXPECT_THROW(state_digest(state.tensors, {record}, state.meta), CheckError);
}

TEST(Coverage, ErrorsAreFound) {
  const std::vector<StateTensor> tensors = {{"model/a", {10, 2}, DType::kF32}};
  EXPECT_FALSE(coverage_error(tensors, {{{0, 0, 4}}, {{0, 4, 6}}}));
  EXPECT_TRUE(coverage_error(tensors, {{{0, 0, 4}}, {{0, 5, 5}}}));  // gap
  EXPECT_TRUE(coverage_error(tensors, {{{0, 0, 4}}, {{0, 3, 7}}}));  // overlap
  EXPECT_TRUE(coverage_error(tensors, {{{0, 0, 4}}, {{0, 4, 5}}}));  // short
  EXPECT_TRUE(coverage_error(tensors, {{{0, 0, 4}}, {{0, 4, 7}}}));  // long
  EXPECT_TRUE(coverage_error(tensors, {{{0, 4, 6}}, {{0, 0, 4}}}));  // out of order
  EXPECT_TRUE(coverage_error(tensors, {{{0, 0, 4}, {0, 4, 6}}}));    // twice in a shard
  EXPECT_TRUE(coverage_error(tensors, {{{0, 0, 10}, {1, 0, 1}}}));   // unknown tensor
}

TEST(TensorNames, OnlyTheTwoForms) {
  for (const char* good : {"model/a.b", "optimizer/exp_avg/a.b-c_0"}) {
    EXPECT_TRUE(is_tensor_name(good)) << good;
  }
  for (const char* bad :
       {"a", "model/", "model/a/b", "optimizer/a", "optimizer//a", "model/..", "optimizer/../a",
        "model/a b", "model/a\n", "/model/a", "other/a", "optimizer/m/a/b", ""}) {
    EXPECT_FALSE(is_tensor_name(bad)) << bad;
  }
}

}  // namespace
}  // namespace lockstep
