// Who stores what: the tensors laid end to end, cut into as many equal parts as there are writers,
// each cut moved to the next row.
#include "io/state_digest.h"
#include "io/sticky_driver.h"

#include <algorithm>

namespace lockstep {
namespace {

// Upper bounds, measured with long names: an object header with its attributes and link; what a
// file needs before its first dataset; a tensor's share of the manifest; the manifest's rest, which
// holds the configuration.
constexpr std::int64_t kBytesPerRange = 768;
constexpr std::int64_t kBytesPerFile = 8192;
constexpr std::int64_t kManifestBytesPerTensor = 256;
constexpr std::int64_t kManifestBytes = 65536;

}  // namespace

std::vector<std::vector<RowRange>> split_rows(const std::vector<StateTensor>& tensors, int shards) {
  CHECK(shards >= 1 && shards <= 99999, "{} shards", shards);
  std::int64_t total = 0;
  for (const StateTensor& tensor : tensors) {
    CHECK(tensor.shape.rank() >= 1 && tensor.shape.count() > 0, "{} {}", tensor.name,
          tensor.shape.str());
    total += tensor_bytes(tensor);
  }
  std::vector<std::vector<RowRange>> ranges(static_cast<std::size_t>(shards));
  std::int64_t base = 0;  // of the current tensor
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const std::int64_t bytes = row_bytes(tensors[t]);
    std::int64_t row = 0;
    for (std::size_t shard = 0; shard < ranges.size() && row < row_count(tensors[t]); ++shard) {
      // Split so that total * shards cannot overflow: total = q * shards + r.
      const auto end = static_cast<std::int64_t>(shard) + 1;
      const std::int64_t cut = total / shards * end + total % shards * end / shards;
      const std::int64_t rows_before = (cut - base + bytes - 1) / bytes;  // begin before the cut
      const std::int64_t last = std::min(row_count(tensors[t]), rows_before);
      if (cut <= base || last <= row) continue;
      ranges[shard].push_back({t, row, last - row});
      row = last;
    }
    base += tensor_bytes(tensors[t]);
  }
  return ranges;
}

std::int64_t checkpoint_bytes(const std::vector<StateTensor>& tensors, int shards) {
  std::int64_t bytes = kManifestBytes + shards * kBytesPerFile;
  bytes += static_cast<std::int64_t>(tensors.size()) * kManifestBytesPerTensor;
  for (const std::vector<RowRange>& part : split_rows(tensors, shards)) {
    for (const RowRange& range : part) {
      const std::int64_t data = range.rows * row_bytes(tensors[range.tensor]);
      bytes += data + kBytesPerRange + (data >= kAlignFrom ? kAlignment : 0);
    }
  }
  return bytes;
}

}  // namespace lockstep
