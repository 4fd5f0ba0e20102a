// Text to token ids and back. Bytes (vocabulary 256, identity) today; byte-level BPE read from a
// tokenizer.json fits the same interface.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::string_view name() const = 0;
  virtual std::int64_t vocab_size() const = 0;
  // Appends the ids of `text` to `ids`. `text` is a whole document or a piece that may be cut at
  // any byte when splittable() is true.
  virtual void encode(std::string_view text, std::vector<std::int32_t>& ids) const = 0;
  virtual std::string decode(const std::vector<std::int32_t>& ids) const = 0;
  // True if encoding pieces and concatenating equals encoding the whole.
  virtual bool splittable() const = 0;
  // Id that separates documents and ends generation, or -1.
  virtual std::int32_t end_of_text() const = 0;
  // Writes the files that open_tokenizer() reads back into `directory`, which must exist.
  virtual void save(const std::string& directory) const = 0;
};

// "byte", a tokenizer directory that save() or `prepare` wrote, or a `prepare` output directory.
// Throws UserError(kData) for a file that is not understood, naming it; UserError(kUsage) for an
// unknown kind, naming those that exist.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& spec);

}  // namespace lockstep
