// Which documents train and which validate: decided before anything is encoded, from the documents'
// content alone, so that encoding is one pass over the corpus.
#pragma once

#include "data/text_input.h"

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep {

struct Split {
  double fraction = 0.0;
  std::vector<std::int64_t> train_bytes;  // by input, texts only: leading bytes that train
  bool tail_of_line = false;              // the only document is a line: its tail validates

  // Line `number` of an input, with that hash: true if it validates. Each line is judged alone,
  // but where all would fall on one side one of them is put on the other.
  bool holds_out(std::size_t input, std::int64_t number, std::uint64_t hash) const;

  struct Exception {
    std::size_t input = 0;
    std::int64_t line = -1;  // 0: a text; -1: there is no exception
    bool held_out = false;
  } exception;
};

// Texts only: choose_validation(), or the tail of the only one. With lines among the inputs a
// document validates if its hash is below fraction * 2^64; they are read until both sides have one.
// Every compressed text must have been measured.
Split choose_split(const std::vector<TextInput>& inputs, double fraction,
                   const std::string& text_field, const OnBytes& on_bytes);

}  // namespace lockstep
