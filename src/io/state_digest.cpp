// Chunk hashes and the sorted lines whose SHA-256 is the state digest.
#include "io/state_digest.h"

#include <algorithm>
#include <bit>
#include <string_view>

namespace lockstep {
namespace {

std::int64_t chunks_before(std::int64_t byte) { return (byte + kChunkBytes - 1) / kChunkBytes; }

std::string compact_shape(const Shape& shape) {
  std::string text = shape.str();
  std::erase(text, ' ');
  return text;
}

// Scalars are lines too: their value stands where a tensor has its hash.
std::vector<std::string> scalar_lines(const CheckpointMeta& meta) {
  const auto integer = [](std::string_view name, std::int64_t value) {
    return fmt::format("state/{} int64 [] {}\n", name, value);
  };
  return {integer("step", meta.step),
          integer("updates", meta.updates),
          integer("tokens", meta.tokens),
          integer("data_counter", meta.data_counter),
          integer("good_steps", meta.good_steps),
          integer("skips_in_row", meta.skips_in_row),
          integer("skipped", meta.skipped),
          fmt::format("state/loss_scale fp64 [] {:016x}\n",
                      std::bit_cast<std::uint64_t>(meta.loss_scale))};
}

bool is_name_part(std::string_view part) {
  static constexpr std::string_view kAllowed =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
  return part.find_first_not_of(kAllowed) == std::string_view::npos &&
         part.find_first_not_of('.') != std::string_view::npos;
}

}  // namespace

std::int64_t row_count(const StateTensor& tensor) { return tensor.shape[0]; }

std::int64_t row_bytes(const StateTensor& tensor) {
  std::int64_t bytes = static_cast<std::int64_t>(size_of(tensor.dtype));
  for (int axis = 1; axis < tensor.shape.rank(); ++axis) bytes *= tensor.shape[axis];
  return bytes;
}

std::int64_t tensor_bytes(const StateTensor& tensor) {
  return row_count(tensor) * row_bytes(tensor);
}

std::int64_t rows_per_piece(const StateTensor& tensor) {
  return std::max(std::int64_t{1}, kPieceBytes / row_bytes(tensor));
}

ChunkHasher::ChunkHasher(std::int64_t total, std::int64_t begin, std::int64_t end)
    : total_(total),
      first_chunk_(chunks_before(begin)),
      end_(first_chunk_ * kChunkBytes >= end ? begin
                                             : std::min(total, chunks_before(end) * kChunkBytes)),
      position_(begin) {}

void ChunkHasher::update(std::span<const std::byte> data) {
  while (!data.empty() && position_ < end_) {
    const bool skipping = position_ < first_chunk_ * kChunkBytes;
    const std::int64_t boundary =
        std::min(total_, (position_ / kChunkBytes + 1) * kChunkBytes);  // of the current chunk
    const std::size_t n = std::min(data.size(), static_cast<std::size_t>(boundary - position_));
    if (!skipping) hash_.update(data.first(n));
    position_ += static_cast<std::int64_t>(n);
    data = data.subspan(n);
    if (!skipping && position_ == boundary) digests_.push_back(hash_.finish());
  }
}

std::vector<Sha256Digest> ChunkHasher::finish() {
  const std::int64_t expected = chunks_before(end_) - first_chunk_;
  CHECK(static_cast<std::int64_t>(digests_.size()) == expected, "{} of {} chunks hashed",
        digests_.size(), expected);
  return std::move(digests_);
}

std::string digest_of_chunks(const std::vector<StateTensor>& tensors,
                             const std::vector<std::vector<Sha256Digest>>& chunks,
                             const CheckpointMeta& meta) {
  std::vector<std::string> lines = scalar_lines(meta);
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const auto expected = static_cast<std::size_t>(chunks_before(tensor_bytes(tensors[t])));
    CHECK(chunks[t].size() == expected, "{}: {} of {} chunks", tensors[t].name, chunks[t].size(),
          expected);
    Sha256 hash;
    for (const Sha256Digest& chunk : chunks[t]) hash.update(chunk);
    lines.push_back(fmt::format("{} {} {} {}\n", tensors[t].name, name_of(tensors[t].dtype),
                                compact_shape(tensors[t].shape), to_hex(hash.finish())));
  }
  std::sort(lines.begin(), lines.end());
  Sha256 hash;
  for (const std::string& line : lines) hash.update(line);
  return to_hex(hash.finish());
}

std::string state_digest(const std::vector<StateTensor>& tensors,
                         const std::vector<ShardRecord>& shards, const CheckpointMeta& meta) {
  std::vector<std::vector<Sha256Digest>> chunks(tensors.size());
  std::vector<std::vector<bool>> seen(tensors.size());
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const auto count = static_cast<std::size_t>(chunks_before(tensor_bytes(tensors[t])));
    chunks[t].resize(count);
    seen[t].resize(count, false);
  }
  for (const ShardRecord& shard : shards) {
    for (const ShardRecord::Chunk& chunk : shard.chunks) {
      const auto index = static_cast<std::size_t>(chunk.index);
      CHECK(chunk.tensor < tensors.size() && index < chunks[chunk.tensor].size() &&
                !seen[chunk.tensor][index],
            "{}: chunk {} of tensor {}", shard.file, chunk.index, chunk.tensor);
      const auto digest = digest_from_hex(chunk.sha256);
      CHECK(digest.has_value(), "{}: {}", shard.file, chunk.sha256);
      chunks[chunk.tensor][index] = *digest;
      seen[chunk.tensor][index] = true;
    }
  }
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    CHECK(std::find(seen[t].begin(), seen[t].end(), false) == seen[t].end(),
          "a chunk of {} was hashed by nobody", tensors[t].name);
  }
  return digest_of_chunks(tensors, chunks, meta);
}

bool is_tensor_name(const std::string& name) {
  const std::size_t first = name.find('/');
  if (first == std::string::npos) return false;
  const std::string_view rest = std::string_view(name).substr(first + 1);
  if (name.starts_with("model/")) return is_name_part(rest);
  const std::size_t second = rest.find('/');
  return name.starts_with("optimizer/") && second != std::string_view::npos &&
         is_name_part(rest.substr(0, second)) && is_name_part(rest.substr(second + 1));
}

std::optional<std::string> coverage_error(const std::vector<StateTensor>& tensors,
                                          const std::vector<std::vector<RowRange>>& ranges) {
  std::vector<std::int64_t> next(tensors.size(), 0);
  std::vector<std::size_t> last_shard(tensors.size(), ranges.size());
  for (std::size_t shard = 0; shard < ranges.size(); ++shard) {
    for (const RowRange& range : ranges[shard]) {
      if (range.tensor >= tensors.size()) return fmt::format("shard {}: unknown tensor", shard);
      const StateTensor& tensor = tensors[range.tensor];
      if (range.row_begin != next[range.tensor] || range.rows < 1 ||
          range.rows > row_count(tensor) - range.row_begin || last_shard[range.tensor] == shard) {
        return fmt::format("{}: shard {} holds rows {}+{} where row {} of {} is next", tensor.name,
                           shard, range.row_begin, range.rows, next[range.tensor],
                           row_count(tensor));
      }
      next[range.tensor] += range.rows;
      last_shard[range.tensor] = shard;
    }
  }
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    if (next[t] != row_count(tensors[t])) {
      return fmt::format("{}: rows {} to {} are in no shard", tensors[t].name, next[t],
                         row_count(tensors[t]));
    }
  }
  return std::nullopt;
}

}  // namespace lockstep
