// One input after the other; a text that is divided gives the pieces of its head, then those of its
// tail.
#include "data/corpus_reader.h"

namespace lockstep {

bool CorpusReader::next(CorpusJob& job) {
  for (; index_ < inputs_.size(); ++index_) {
    if (!reader_) reader_ = std::make_unique<PieceReader>(inputs_[index_]);
    if (next_of_input(job)) return true;
    reader_.reset();
  }
  return false;
}

bool CorpusReader::next_of_input(CorpusJob& job) {
  job = {};
  job.input = index_;
  job.lines = inputs_[index_].format == TextFormat::kLines;
  return job.lines ? reader_->next_lines(job.piece) : next_text(job);
}

bool CorpusReader::next_text(CorpusJob& job) {
  const std::int64_t bytes = inputs_[index_].bytes;
  const std::int64_t cut = split_.train_bytes[index_];
  job.held_out = !reader_->next_text(job.piece, cut, safe_cut_);
  if (job.held_out && !reader_->next_text(job.piece, bytes, safe_cut_)) return false;
  job.ends_document = reader_->position() == bytes;
  return true;
}

}  // namespace lockstep
