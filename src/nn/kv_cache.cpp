// Pages are taken when a sequence grows into them and given back when it is forgotten.
#include "nn/kv_cache.h"

#include "nn/model.h"

#include <algorithm>

namespace lockstep {
namespace {

std::int64_t pages_for(std::int64_t tokens) {
  return (tokens + KvCache::kPageTokens - 1) / KvCache::kPageTokens;
}

// From pageable memory, which the stream has read on return.
void upload(const Tensor& to, const std::vector<std::int32_t>& values, Stream& stream) {
  stream.copy(to.data, values.data(), values.size() * sizeof(std::int32_t));
}

}  // namespace

KvCache::KvCache(std::int64_t sequences, std::int64_t sequence_tokens, std::int64_t tokens,
                 std::int64_t rows, Arena& arena)
    : rows_(rows),
      pages_(pages_for(tokens)),
      sequence_pages_(pages_for(sequence_tokens)),
      sequence_tokens_(sequence_tokens),
      sequences_(static_cast<std::size_t>(sequences)) {
  const auto ints = [&](const char* name, Shape shape) {
    return arena.allocate(name, shape, DType::kI32, MemoryGroup::kActivations);
  };
  tokens_ = ints("decode tokens", {padded_rows(rows)});
  positions_ = ints("decode positions", {padded_rows(rows)});
  table_ = ints("page table", {sequences, sequence_pages_});
  starts_ = ints("query starts", {sequences + 1});
  lens_ = ints("sequence lengths", {sequences});
  for (std::int64_t page = pages_; page-- > 0;) free_.push_back(static_cast<std::int32_t>(page));
}

const KvCache::Sequence& KvCache::state(std::int64_t sequence) const {
  CHECK(sequence >= 0 && sequence < static_cast<std::int64_t>(sequences_.size()),
        "sequence {} of {}", sequence, sequences_.size());
  return sequences_[static_cast<std::size_t>(sequence)];
}

std::int64_t KvCache::room(std::int64_t sequence) const {
  const Sequence& s = state(sequence);
  const auto pages = static_cast<std::int64_t>(s.pages.size() + free_.size());
  return std::min(sequence_tokens_, pages * kPageTokens) - s.length;
}

void KvCache::forget(std::int64_t sequence) {
  state(sequence);
  Sequence& s = sequences_[static_cast<std::size_t>(sequence)];
  free_.insert(free_.end(), s.pages.rbegin(), s.pages.rend());
  s = {};
}

KvCache::Call KvCache::append(std::span<const SequenceInput> inputs, Stream& stream) {
  std::vector<std::int32_t> tokens, positions, table, starts = {0}, lens;
  Call call;
  for (const SequenceInput& input : inputs) {
    const auto count = static_cast<std::int64_t>(input.tokens.size());
    CHECK(count > 0 && count <= room(input.sequence), "{} tokens, sequence {} has room for {}",
          count, input.sequence, room(input.sequence));
    Sequence& s = sequences_[static_cast<std::size_t>(input.sequence)];
    for (std::int64_t i = 0; i < count; ++i) {
      tokens.push_back(input.tokens[static_cast<std::size_t>(i)]);
      positions.push_back(static_cast<std::int32_t>(s.length + i));
    }
    s.length += count;
    while (static_cast<std::int64_t>(s.pages.size()) < pages_for(s.length)) {
      CHECK(!free_.empty(), "{} pages for all sequences are too few", pages_);
      s.pages.push_back(free_.back());
      free_.pop_back();
    }
    table.insert(table.end(), s.pages.begin(), s.pages.end());
    table.resize(lens.size() * static_cast<std::size_t>(sequence_pages_) +
                 static_cast<std::size_t>(sequence_pages_));
    lens.push_back(static_cast<std::int32_t>(s.length));
    starts.push_back(static_cast<std::int32_t>(tokens.size()));
    call.last_rows.push_back(static_cast<std::int64_t>(tokens.size()) - 1);
  }
  const auto rows = static_cast<std::int64_t>(tokens.size());
  const auto S = static_cast<std::int64_t>(lens.size());
  CHECK(S > 0 && S <= static_cast<std::int64_t>(sequences_.size()), "{} sequences at once", S);
  CHECK(rows <= rows_, "{} tokens at once, at most {}", rows, rows_);
  tokens.resize(static_cast<std::size_t>(padded_rows(rows)));
  positions.resize(tokens.size());
  call.tokens = tokens_.elements(0, padded_rows(rows));
  call.positions = positions_.elements(0, padded_rows(rows));
  call.batch = {.page_table = table_.row_range(0, S),
                .query_starts = starts_.elements(0, S + 1),
                .kv_lens = lens_.elements(0, S),
                .page_size = kPageTokens};
  upload(call.tokens, tokens, stream);
  upload(call.positions, positions, stream);
  upload(call.batch.page_table, table, stream);
  upload(call.batch.query_starts, starts, stream);
  upload(call.batch.kv_lens, lens, stream);
  return call;
}

}  // namespace lockstep
