// The texts that prepare reads: files as they stand; standard input and pipes, whose length is not
// known, are first copied to a file, because the split needs lengths.
#pragma once

#include "data/file.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace lockstep {

// One document. Files are opened only while they are read: a corpus may have more of them than a
// process may hold open.
struct TextInput {
  std::string name;         // for messages
  std::string path;         // "" for a pipe until spool()
  std::int64_t bytes = -1;  // -1 for a pipe until spool()
  Fd pipe;
};

// Looks at every input ("-" is standard input). Throws UserError: kData (missing, empty,
// unreadable, a directory), kUsage (a format that is no plain text, standard input twice).
std::vector<TextInput> find_inputs(const std::vector<std::string>& names);

// Copies a pipe to `path` and reads from there on. Throws UserError(kData) if nothing came.
void spool(TextInput& input, const std::string& path,
           const std::function<void(std::int64_t copied)>& on_bytes);

// Indices of the documents that go to validation: whole ones, in the order of a hash of their
// content, as long as each brings their bytes nearer to fraction * all. With two or more documents
// and a fraction above 0 each side gets at least one.
std::vector<bool> choose_validation(const std::vector<TextInput>& inputs, double fraction);

// Where the only document is cut: the first byte of its validation tail, never inside a UTF-8
// character. Equal to the size if nothing is held out.
std::int64_t tail_begin(const TextInput& input, double fraction);

}  // namespace lockstep
