// All inputs of a corpus as one sequence of jobs for encoders, each with the side it is for.
#pragma once

#include "data/pieces.h"
#include "data/split.h"

#include <memory>
#include <vector>

namespace lockstep {

struct CorpusJob {
  std::size_t input = 0;
  Piece piece;
  bool lines = false;  // JSON lines; what follows is for texts
  bool held_out = false;
  bool ends_document = false;
};

// The inputs and the split must outlive it.
class CorpusReader {
 public:
  CorpusReader(const std::vector<TextInput>& inputs, const Split& split, SafeCut safe_cut)
      : inputs_(inputs), split_(split), safe_cut_(std::move(safe_cut)) {}
  // False at the end. Throws UserError(kData) as PieceReader does.
  bool next(CorpusJob& job);

 private:
  bool next_of_input(CorpusJob& job);
  bool next_text(CorpusJob& job);

  const std::vector<TextInput>& inputs_;
  const Split& split_;
  SafeCut safe_cut_;
  std::size_t index_ = 0;
  std::unique_ptr<PieceReader> reader_;
};

}  // namespace lockstep
