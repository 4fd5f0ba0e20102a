// The shards of one split, filled one after the other. A shard gets a mask file once a token comes
// that does not count as a target.
#pragma once

#include "data/shard.h"
#include "data/staging.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace lockstep {

// Tokens on their way to a shard.
struct TokenRun {
  std::vector<std::int32_t> ids;
  std::vector<std::uint8_t> mask;  // 1 per id that counts; empty while all do

  // The ids from `begin` on were appended; all of them count, or none.
  void mark(std::size_t begin, bool counts);
};

class ShardSeries {
 public:
  // Each shard but the last holds `limit` tokens. `staging` must outlive this.
  ShardSeries(const Staging& staging, std::string split, int bytes_per_token, std::int64_t limit);
  void append(const TokenRun& run);
  void finish();
  std::int64_t tokens() const { return tokens_; }
  std::int64_t masked() const { return masked_; }  // tokens that do not count
  // Names of shards and masks, a mask before its shard.
  std::vector<std::string> names() const;
  const std::vector<std::string>& shard_names() const { return shards_; }

 private:
  void open();
  void write(std::span<const std::int32_t> ids, std::span<const std::uint8_t> mask);

  const Staging& staging_;
  std::string split_;
  int bytes_per_token_;
  std::int64_t limit_;
  std::unique_ptr<ShardWriter> writer_;
  std::vector<std::string> shards_;
  std::vector<bool> has_mask_;  // by shard
  std::vector<std::uint8_t> ones_;
  std::int64_t tokens_ = 0;
  std::int64_t masked_ = 0;
};

}  // namespace lockstep
