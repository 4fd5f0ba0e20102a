// KvCache: which pages hold the keys and values of which sequence, and what a call of the paged
// kernels must be told. The host decides; the kernels read the same numbers on the device.
// Legend: S sequences of a call, P pages a sequence may have, N new tokens of a call.
#pragma once

#include "device/arena.h"
#include "kernels/table.h"

#include <cstdint>
#include <span>
#include <vector>

namespace lockstep {

struct SequenceInput;

class KvCache {
 public:
  static constexpr std::int64_t kPageTokens = 16;
  // A call's rows are filled up to a multiple of this. A processor's matrix product computes whole
  // blocks of rows alike, so a sequence's rows do not depend on how many others stand beside them.
  static constexpr std::int64_t kRowBlock = 16;
  static std::int64_t padded_rows(std::int64_t rows) {
    return (rows + kRowBlock - 1) / kRowBlock * kRowBlock;
  }

  KvCache() = default;
  // Room for `tokens` tokens of all sequences, and calls of at most `rows` new ones.
  KvCache(std::int64_t sequences, std::int64_t sequence_tokens, std::int64_t tokens,
          std::int64_t rows, Arena& arena);

  std::int64_t page_rows() const { return pages_ * kPageTokens; }  // of a layer's pages
  std::int64_t length(std::int64_t sequence) const { return state(sequence).length; }
  std::int64_t room(std::int64_t sequence) const;
  void forget(std::int64_t sequence);

  // Gives the new tokens their places and enqueues the upload of what the kernels read: tokens and
  // positions, and the batch. Rows behind the N new tokens are nobody's: token 0 at position 0.
  // Valid until the next call. CHECKs that there is room.
  struct Call {
    Tensor tokens, positions;  // (padded_rows(N)) int32
    PagedBatch batch;
    std::vector<std::int64_t> last_rows;  // of each input, among the N
  };
  Call append(std::span<const SequenceInput> inputs, Stream& stream);

 private:
  struct Sequence {
    std::int64_t length = 0;
    std::vector<std::int32_t> pages;
  };
  const Sequence& state(std::int64_t sequence) const;

  std::int64_t rows_ = 0;            // new tokens of a call, at most
  std::int64_t pages_ = 0;           // in all
  std::int64_t sequence_pages_ = 0;  // P
  std::int64_t sequence_tokens_ = 0;
  std::vector<Sequence> sequences_;
  std::vector<std::int32_t> free_;  // the last one is taken first
  Tensor tokens_, positions_;       // (rows) int32
  Tensor table_, starts_, lens_;    // (sequences, P), (sequences + 1), (sequences) int32
};

}  // namespace lockstep
