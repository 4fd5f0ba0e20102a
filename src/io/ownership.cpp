// Who stores what. Rows that only one rank holds are that rank's; all other tensors are laid end to
// end and cut into as many equal parts as there are ranks, each cut moved to the next row.
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

// Walks along the tensors that every rank holds and gives each its cuts.
class EvenSplit {
 public:
  EvenSplit(std::int64_t total, int ranks) : total_(total), ranks_(ranks) {}

  void append(std::vector<OwnedRange>& out, std::size_t index, const StateTensor& tensor) {
    const std::int64_t bytes = row_bytes(tensor);
    std::int64_t row = 0;
    for (int rank = 0; rank < ranks_ && row < row_count(tensor); ++rank) {
      // Split so that total * ranks cannot overflow: total = q * ranks + r.
      const std::int64_t end = rank + 1;
      const std::int64_t cut = total_ / ranks_ * end + total_ % ranks_ * end / ranks_;
      const std::int64_t rows_before = (cut - base_ + bytes - 1) / bytes;  // begin before the cut
      const std::int64_t last = std::min(row_count(tensor), rows_before);
      if (cut <= base_ || last <= row) continue;
      out.push_back({{index, row, last - row}, rank});
      row = last;
    }
    base_ += tensor_bytes(tensor);
  }

 private:
  std::int64_t total_;
  std::int64_t ranks_;
  std::int64_t base_ = 0;  // of the next tensor
};

void check_covered(const std::vector<StateTensor>& tensors, const std::vector<OwnedRange>& ranges,
                   int ranks) {
  std::vector<std::vector<RowRange>> by_rank(static_cast<std::size_t>(ranks));
  for (const OwnedRange& range : ranges) {
    CHECK(range.owner >= 0 && range.owner < ranks, "owner {} of {}", range.owner, ranks);
    by_rank[static_cast<std::size_t>(range.owner)].push_back(range.rows);
  }
  const auto error = coverage_error(tensors, by_rank);
  CHECK(!error, "{}", *error);
}

}  // namespace

std::vector<OwnedRange> assign_rows(const std::vector<StateTensor>& tensors, int ranks,
                                    const std::vector<OwnedRange>& held) {
  CHECK(ranks >= 1 && ranks <= 99999, "{} ranks", ranks);
  std::vector<std::vector<OwnedRange>> held_by_tensor(tensors.size());
  for (const OwnedRange& range : held) {
    CHECK(range.rows.tensor < tensors.size(), "tensor {}", range.rows.tensor);
    held_by_tensor[range.rows.tensor].push_back(range);
  }
  std::int64_t total = 0;
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const StateTensor& tensor = tensors[t];
    CHECK(tensor.shape.rank() >= 1 && tensor.shape.count() > 0, "{} {}", tensor.name,
          tensor.shape.str());
    if (held_by_tensor[t].empty()) total += tensor_bytes(tensor);
  }
  std::vector<OwnedRange> ranges;
  EvenSplit split(total, ranks);
  for (std::size_t t = 0; t < tensors.size(); ++t) {
    const std::vector<OwnedRange>& fixed = held_by_tensor[t];
    if (fixed.empty()) {
      split.append(ranges, t, tensors[t]);
    } else {
      ranges.insert(ranges.end(), fixed.begin(), fixed.end());
    }
  }
  check_covered(tensors, ranges, ranks);
  return ranges;
}

std::vector<RowRange> rows_of(int owner, const std::vector<OwnedRange>& ranges) {
  std::vector<RowRange> rows;
  for (const OwnedRange& range : ranges) {
    if (range.owner == owner) rows.push_back(range.rows);
  }
  return rows;
}

std::int64_t checkpoint_bytes(const std::vector<StateTensor>& tensors,
                              const std::vector<OwnedRange>& ranges, int ranks) {
  std::int64_t bytes = kManifestBytes + ranks * kBytesPerFile;
  bytes += static_cast<std::int64_t>(tensors.size()) * kManifestBytesPerTensor;
  for (const OwnedRange& range : ranges) {
    const std::int64_t data = range.rows.rows * row_bytes(tensors[range.rows.tensor]);
    bytes += data + kBytesPerRange + (data >= kAlignFrom ? kAlignment : 0);
  }
  return bytes;
}

}  // namespace lockstep
