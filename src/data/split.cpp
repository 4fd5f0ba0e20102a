// The peek over JSON lines ends as soon as both sides have a document: after about 1 / fraction of
// them, however long the corpus is.
#include "data/split.h"

#include "core/error.h"
#include "data/json_document.h"
#include "data/pieces.h"

#include <cmath>

namespace lockstep {
namespace {

bool below(std::uint64_t hash, double fraction) {
  return std::ldexp(static_cast<double>(hash), -64) < fraction;
}

// The documents at both ends of the order of hashes, the first of equal ones.
class Extremes {
 public:
  explicit Extremes(double fraction) : fraction_(fraction) {}
  void add(std::size_t input, std::int64_t line, std::uint64_t hash, bool is_prompt) {
    (below(hash, fraction_) ? has_val_ : has_train_) = true;
    if (count_ == 0 || hash < low_hash_) {
      low_ = {input, line, /*held_out=*/true};
      low_hash_ = hash;
    }
    if (count_ == 0 || hash > high_hash_) {
      high_ = {input, line, /*held_out=*/false};
      high_hash_ = hash;
    }
    ++count_;
    only_text_line_ = count_ == 1 && line > 0 && !is_prompt;
  }
  bool both_sides() const { return has_val_ && has_train_; }
  void apply(Split& split) const {
    split.tail_of_line = only_text_line_;
    if (count_ < 2) {
      split.exception = {high_.input, count_ == 0 ? -1 : high_.line, /*held_out=*/false};
    } else if (!both_sides()) {
      split.exception = has_val_ ? high_ : low_;
    }
  }

 private:
  double fraction_;
  Split::Exception low_;
  Split::Exception high_;
  std::uint64_t low_hash_ = 0;
  std::uint64_t high_hash_ = 0;
  std::int64_t count_ = 0;
  bool has_val_ = false;
  bool has_train_ = false;
  bool only_text_line_ = false;
};

void add_lines(Extremes& extremes, const TextInput& input, std::size_t index,
               const std::string& text_field, const OnBytes& on_bytes) {
  PieceReader reader(input);
  Piece piece;
  std::int64_t stored = 0;
  while (!extremes.both_sides() && reader.next_lines(piece)) {
    for_each_line(piece, [&](std::string_view line, std::int64_t number) {
      if (extremes.both_sides()) return;
      const JsonDocument document =
          parse_document(line, text_field, fmt::format("{}:{}", input.name, number));
      if (document.bytes() == 0) return;
      extremes.add(index, number, document.hash(), document.has_prompt);
    });
    stored += piece.stored;
    on_bytes(stored);
  }
}

void split_texts(Split& split, const std::vector<TextInput>& inputs, const OnBytes& on_bytes) {
  if (inputs.size() == 1) {
    split.train_bytes = {tail_begin(inputs.front(), split.fraction, on_bytes)};
    return;
  }
  const std::vector<bool> held_out = choose_validation(inputs, split.fraction);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    split.train_bytes.push_back(held_out[i] ? 0 : inputs[i].bytes);
  }
}

void split_mixed(Split& split, const std::vector<TextInput>& inputs, const std::string& text_field,
                 const OnBytes& on_bytes) {
  std::vector<std::uint64_t> hashes(inputs.size(), 0);
  Extremes extremes(split.fraction);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].format == TextFormat::kLines) continue;
    hashes[i] = document_hash(inputs[i]);
    extremes.add(i, /*line=*/0, hashes[i], /*is_prompt=*/false);
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].format == TextFormat::kLines) {
      add_lines(extremes, inputs[i], i, text_field, on_bytes);
    }
  }
  extremes.apply(split);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const bool text = inputs[i].format == TextFormat::kText;
    const bool train = text && !split.holds_out(i, /*number=*/0, hashes[i]);
    split.train_bytes.push_back(train ? inputs[i].bytes : 0);
  }
}

}  // namespace

bool Split::holds_out(std::size_t input, std::int64_t number, std::uint64_t hash) const {
  if (exception.line == number && exception.input == input) return exception.held_out;
  return below(hash, fraction);
}

Split choose_split(const std::vector<TextInput>& inputs, double fraction,
                   const std::string& text_field, const OnBytes& on_bytes) {
  Split split;
  split.fraction = fraction;
  bool texts_only = true;
  for (const TextInput& input : inputs) texts_only &= input.format == TextFormat::kText;
  if (texts_only) {
    split_texts(split, inputs, on_bytes);
  } else if (fraction > 0.0) {
    split_mixed(split, inputs, text_field, on_bytes);
  } else {
    for (const TextInput& input : inputs) split.train_bytes.push_back(input.bytes);
  }
  return split;
}

}  // namespace lockstep
