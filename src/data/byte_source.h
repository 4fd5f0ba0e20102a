// A file's bytes in order, decompressed on the way: plain, gzip (any number of members) or zstd
// (any number of frames). Memory is bounded whatever a file claims: output comes as it is asked
// for, and windows are limited.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace lockstep {

enum class Compression { kNone, kGzip, kZstd };

// By the first bytes of a file; plain text never begins like either (both are no UTF-8).
Compression compression_of(std::string_view head);

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Up to `size` bytes, at least one before the end, 0 at the end. Throws UserError(kData) naming
  // the file and the byte where compressed data are damaged or cut short.
  virtual std::size_t read(char* data, std::size_t size) = 0;
  // Bytes of the file, as it is stored, that were read so far.
  virtual std::int64_t position() const = 0;
};

// `path` is opened, `name` is for messages.
std::unique_ptr<ByteSource> open_bytes(const std::string& path, const std::string& name,
                                       Compression compression);

// Reads and drops exactly `count` bytes, telling position() as it goes; false if there are fewer.
bool skip_bytes(ByteSource& source, std::int64_t count,
                const std::function<void(std::int64_t position)>& on_position);

}  // namespace lockstep
