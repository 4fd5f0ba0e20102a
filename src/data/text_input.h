// What prepare reads: which files there are, how they are stored (text or JSON lines, compressed or
// not) and which documents go to validation. Standard input and pipes are first copied to a file,
// because the split needs lengths.
#pragma once

#include "data/byte_source.h"
#include "files/input_stream.h"

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

enum class TextFormat {
  kText,      // one document
  kLines,     // JSON Lines: one document per line
  kUndecided  // a pipe whose name does not tell, until spool()
};

// One file. It is opened only while it is read: a corpus may have more of them than a process may
// hold open.
struct TextInput {
  std::string name;          // for messages
  std::string path;          // "" for a pipe until spool()
  std::int64_t stored = -1;  // size of the file; -1 for a pipe until spool()
  std::int64_t bytes = -1;   // of text; -1 for a pipe until spool(), for compressed text until
                             // measure(), always for lines
  TextFormat format = TextFormat::kText;
  Compression compression = Compression::kNone;
  InputStream pipe;
};

// Called while bytes are copied or decompressed, with how many of the file so far; may throw.
using OnBytes = std::function<void(std::int64_t bytes)>;

// Looks at every input ("-" is standard input). Names decide: .jsonl is lines, .gz and .zst around
// either are compressed, anything else is text. Throws UserError: kData (missing, unreadable, a
// directory), kUsage (a format that is not read, standard input twice).
std::vector<TextInput> find_inputs(const std::vector<std::string>& names);

// Copies a pipe to `path` and reads from there on. Where the name does not tell, the content does:
// compressed data by their magic, lines if the first byte is '{'.
void spool(TextInput& input, const std::string& path, const OnBytes& on_bytes);

// Finds out how much text a compressed file holds.
void measure(TextInput& input, const OnBytes& on_bytes);

// Leaves out the inputs that are known to be empty and says how many. Throws UserError(kData) when
// none remains.
std::int64_t drop_empty(std::vector<TextInput>& inputs);

// Throws UserError(kData) with the command that converts it when the beginning of a text is in
// another encoding than UTF-8, see guess_encoding().
void require_utf8(const TextInput& input);

// What documents are told apart by: size and first 64 KiB, so that neither paths nor storage count.
std::uint64_t document_hash(std::string_view head, std::int64_t bytes);
std::uint64_t document_hash(const TextInput& text);
inline constexpr std::int64_t kHashedBytes = std::int64_t{64} << 10;

// Indices of the texts that go to validation: whole ones, in the order of their hash, as long as
// each brings their bytes nearer to fraction * all. With two or more and a fraction above 0 each
// side gets at least one.
std::vector<bool> choose_validation(const std::vector<TextInput>& texts, double fraction);

// Where the only document is cut: the first byte of its validation tail, never inside a UTF-8
// character. Equal to the size if nothing is held out.
std::int64_t tail_begin(const TextInput& text, double fraction, const OnBytes& on_bytes = {});
std::int64_t tail_begin(std::string_view text, double fraction);

}  // namespace lockstep
