// A piece starts at kPieceBytes and doubles while there is no place to cut it, so that a document
// without any (one endless word) is still tried a logarithmic number of times.
#include "data/pieces.h"

#include "core/error.h"

#include <algorithm>
#include <utility>

namespace lockstep {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{256} << 10;
constexpr double kMib = 1024.0 * 1024.0;

}  // namespace

PieceReader::PieceReader(const TextInput& input)
    : input_(input), source_(open_bytes(input.path, input.name, input.compression)) {}

bool PieceReader::fill(std::size_t most) {
  const std::size_t had = buffer_.size();
  buffer_.resize(had + most);
  const std::size_t got = source_->read(buffer_.data() + had, most);
  buffer_.resize(had + got);
  return got > 0;
}

void PieceReader::emit(Piece& piece, std::size_t size) {
  if (size == buffer_.size()) {
    piece.bytes = std::exchange(buffer_, {});
  } else {
    piece.bytes.assign(buffer_, 0, size);
    buffer_.erase(0, size);
  }
  piece.stored = source_->position() - std::exchange(told_, source_->position());
  at_ += static_cast<std::int64_t>(size);
}

bool PieceReader::next_text(Piece& piece, std::int64_t end, const SafeCut& safe_cut) {
  if (at_ >= end) return false;
  piece.first_line = 0;
  for (std::size_t want = kPieceBytes; true; want *= 2) {
    const std::size_t size = std::min(want, static_cast<std::size_t>(end - at_));
    while (buffer_.size() < size) {
      if (fill(size - buffer_.size())) continue;
      fail(ExitCode::kData, "{}: ends at byte {} while being read; leave it alone and run again",
           input_.name, at_ + static_cast<std::int64_t>(buffer_.size()));
    }
    const bool last = at_ + static_cast<std::int64_t>(size) == end;
    const std::size_t cut = last ? size : safe_cut(std::string_view(buffer_.data(), size));
    if (cut > 0) {
      emit(piece, cut);
      return true;
    }
    if (want >= kLargestPiece) {
      fail(ExitCode::kData,
           "{}: {:.0f} MiB from byte {} on without a place where the tokenizer may cut; break the "
           "text with spaces or lines",
           input_.name, static_cast<double>(kLargestPiece) / kMib, at_);
    }
  }
}

bool PieceReader::next_lines(Piece& piece) {
  std::size_t searched = 0;
  while (true) {
    const bool more = fill(kPieceBytes);
    const std::size_t newline = std::string_view(buffer_).substr(searched).rfind('\n');
    if (newline != std::string_view::npos || !more) {
      const std::size_t size = more ? searched + newline + 1 : buffer_.size();
      piece.first_line = line_;
      emit(piece, size);
      line_ += std::count(piece.bytes.begin(), piece.bytes.end(), '\n');
      return size > 0;
    }
    searched = buffer_.size();
    if (searched > kLargestPiece) {
      fail(ExitCode::kData,
           "{}:{}: a line of more than {:.0f} MiB; give a document of that size a .txt file of "
           "its own",
           input_.name, line_, static_cast<double>(kLargestPiece) / kMib);
    }
  }
}

void for_each_line(const Piece& lines,
                   const std::function<void(std::string_view line, std::int64_t number)>& use) {
  std::string_view rest = lines.bytes;
  for (std::int64_t number = lines.first_line; !rest.empty(); ++number) {
    const std::size_t size = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, size);
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) use(line, number);
    rest.remove_prefix(std::min(size + 1, rest.size()));
  }
}

}  // namespace lockstep
