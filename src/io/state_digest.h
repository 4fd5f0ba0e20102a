// The identity of a training state: hashes of 4 MiB chunks of each tensor, folded into one digest
// that does not depend on how many files hold the state. Definition: docs/checkpoint_format.md.
#pragma once

#include "files/sha256.h"
#include "io/checkpoint.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace lockstep {

inline constexpr std::int64_t kChunkBytes = std::int64_t{4} << 20;
inline constexpr std::int64_t kPieceBytes = std::int64_t{8} << 20;  // the most one call moves

// Axis-0 slices: what ranges count in.
std::int64_t row_count(const StateTensor& tensor);
std::int64_t row_bytes(const StateTensor& tensor);
std::int64_t tensor_bytes(const StateTensor& tensor);
// As many rows as a piece holds, at least one.
std::int64_t rows_per_piece(const StateTensor& tensor);

// Hashes the chunks that begin inside a range of a tensor, fed consecutive bytes from the range's
// first one on. Feeding ends at end(), which lies beyond the range when its last chunk does.
class ChunkHasher {
 public:
  // Bytes [begin, end) of a tensor of `total` bytes.
  ChunkHasher(std::int64_t total, std::int64_t begin, std::int64_t end);
  std::int64_t end() const { return end_; }
  void update(std::span<const std::byte> data);
  // One digest per chunk, from chunk first_chunk() on. CHECKs that all bytes came.
  std::int64_t first_chunk() const { return first_chunk_; }
  std::vector<Sha256Digest> finish();

 private:
  std::int64_t total_;
  std::int64_t first_chunk_;
  std::int64_t end_;
  std::int64_t position_;  // of the next byte to come
  Sha256 hash_;
  std::vector<Sha256Digest> digests_;
};

// chunks[t]: the digests of all chunks of tensors[t], in order.
std::string digest_of_chunks(const std::vector<StateTensor>& tensors,
                             const std::vector<std::vector<Sha256Digest>>& chunks,
                             const CheckpointMeta& meta);

// "model/NAME" or "optimizer/MOMENT/NAME", each part of [A-Za-z0-9_.-] and not all dots.
bool is_tensor_name(const std::string& name);

// The first reason why `ranges` (per shard) do not hold every row of every tensor exactly once in
// ascending order, or nothing.
std::optional<std::string> coverage_error(const std::vector<StateTensor>& tensors,
                                          const std::vector<std::vector<RowRange>>& ranges);

}  // namespace lockstep
