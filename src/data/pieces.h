// Inputs cut into pieces that encoders can take one by one: a text where its tokenizer allows a
// cut, JSON lines at line ends. Only a piece is in memory, never a file.
#pragma once

#include "data/text_input.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace lockstep {

// No line of JSON, and no stretch of text without a place to cut, may be longer: what is decoded
// from a small compressed file must not exhaust memory.
inline constexpr std::size_t kLargestPiece = std::size_t{64} << 20;

struct Piece {
  std::string bytes;
  std::int64_t first_line = 0;  // number of the first line; 0 for text
  std::int64_t stored = 0;      // bytes of the file that were read for it
};

// Calls back with every line that is not blank, and its number.
void for_each_line(const Piece& lines,
                   const std::function<void(std::string_view line, std::int64_t number)>& use);

// Where a text may be cut; Tokenizer::safe_cut or BpeTrainer::safe_cut.
using SafeCut = std::function<std::size_t(std::string_view)>;

class PieceReader {
 public:
  explicit PieceReader(const TextInput& input);
  // The next piece of a text that ends at byte `end`, where the last piece ends in any case; false
  // when `end` is reached. Throws UserError(kData): shorter than `end`, no place to cut.
  bool next_text(Piece& piece, std::int64_t end, const SafeCut& safe_cut);
  // The next whole lines; false at the end. Throws UserError(kData): a line that is too long.
  bool next_lines(Piece& piece);
  // Of the text: where the next piece begins.
  std::int64_t position() const { return at_; }

 private:
  // Appends at most `most` bytes to the buffer; false at the end of the input.
  bool fill(std::size_t most);
  void emit(Piece& piece, std::size_t size);

  const TextInput& input_;
  std::unique_ptr<ByteSource> source_;
  std::string buffer_;     // read, not yet handed out
  std::int64_t at_ = 0;    // of the text: where the buffer begins
  std::int64_t line_ = 1;  // number of the buffer's first line
  std::int64_t told_ = 0;  // stored bytes accounted for in pieces
};

}  // namespace lockstep
