// Files as they are read: whole, or in pieces from anywhere. Never mapped: a file that is cut short
// under its reader is an error with its name here, and would be a signal there.
#pragma once

#include "files/file_system.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace lockstep {

// An open file with the size that it had when it was opened. Many may exist: beyond half of the
// descriptors that the process may have, each read opens the file again. Any thread may read.
class InputFile {
 public:
  // Follows links. `what` is expected there, for messages ("a token shard"). Throws
  // UserError(kData) when it is missing, cannot be opened, or is no regular file.
  InputFile(const std::string& path, const std::string& what);

  const std::string& path() const { return path_; }
  std::int64_t size() const { return size_; }
  // Exactly the bytes [offset, offset + out.size()). Throws UserError(kData) where the file ends
  // before them: it was cut short, or never had them; UserError(kIo) where the disk fails.
  void read(std::span<std::byte> out, std::int64_t offset) const;
  // The whole file. Throws UserError(kData) above `limit` bytes.
  std::string text(std::int64_t limit) const;

 private:
  std::string path_;
  Descriptor file_;  // closed when there are too many
  std::int64_t size_ = 0;
  std::uint64_t device_ = 0;  // which file it is, to know it again
  std::uint64_t inode_ = 0;
};

// Opens a regular file for reading and gives its size; a link is refused. Throws UserError(kData)
// when missing or not regular.
Descriptor open_regular(std::int64_t& size, const std::string& path, const FileSystem& files = {});

// Such a file's content. Throws UserError(kData) also above `limit`.
std::string read_file(const std::string& path, std::int64_t limit, const FileSystem& files = {});

}  // namespace lockstep
