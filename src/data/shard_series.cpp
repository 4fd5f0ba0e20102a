// Cuts runs of tokens at the limit of a shard.
#include "data/shard_series.h"

#include "data/prepared.h"
#include "data/shard_format.h"

#include <algorithm>
#include <span>

namespace lockstep {

void TokenRun::mark(std::size_t begin, bool counts) {
  if (counts && mask.empty()) return;
  mask.resize(begin, 1);
  mask.resize(ids.size(), counts ? 1 : 0);
}

ShardSeries::ShardSeries(const Staging& staging, std::string split, int bytes_per_token,
                         std::int64_t limit)
    : staging_(staging),
      split_(std::move(split)),
      bytes_per_token_(bytes_per_token),
      limit_(limit) {}

void ShardSeries::append(const TokenRun& run) {
  std::span<const std::int32_t> ids = run.ids;
  std::span<const std::uint8_t> mask = run.mask;
  while (!ids.empty()) {
    if (!writer_) open();
    const auto room = static_cast<std::size_t>(limit_ - writer_->tokens());
    const std::size_t count = std::min(room, ids.size());
    write(ids.first(count), mask.first(std::min(count, mask.size())));
    ids = ids.subspan(count);
    mask = mask.subspan(std::min(count, mask.size()));
    if (writer_->tokens() == limit_) finish();
  }
}

void ShardSeries::write(std::span<const std::int32_t> ids, std::span<const std::uint8_t> mask) {
  const auto masked = std::count(mask.begin(), mask.end(), std::uint8_t{0});
  if (masked > 0 && !writer_->has_mask()) {
    writer_->begin_mask();
    has_mask_.back() = true;
  }
  if (!writer_->has_mask()) {
    mask = {};
  } else if (mask.empty()) {
    ones_.resize(std::max(ones_.size(), ids.size()), 1);
    mask = std::span(ones_).first(ids.size());
  }
  writer_->append(ids, mask);
  tokens_ += static_cast<std::int64_t>(ids.size());
  masked_ += masked;
}

void ShardSeries::finish() {
  if (writer_) writer_->close();
  writer_.reset();
}

std::vector<std::string> ShardSeries::names() const {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    if (has_mask_[i]) names.push_back(mask_path(shards_[i]));
    names.push_back(shards_[i]);
  }
  return names;
}

void ShardSeries::open() {
  shards_.push_back(shard_name(split_, static_cast<std::int64_t>(shards_.size())));
  has_mask_.push_back(false);
  writer_ = std::make_unique<ShardWriter>(staging_.path(shards_.back()), bytes_per_token_,
                                          /*with_mask=*/false);
}

}  // namespace lockstep
