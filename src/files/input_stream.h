// What is read once from begin to end, and may be a pipe: texts and standard input.
#pragma once

#include "files/file_system.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace lockstep {

class InputStream {
 public:
  InputStream() = default;  // open nowhere
  // Follows links, waits at a pipe. `what` is expected there, for messages ("a text file"). Throws
  // UserError(kData) when it is missing, cannot be opened, or is a directory.
  InputStream(const std::string& path, const std::string& what);
  static InputStream standard_input();  // throws UserError(kData) when it is closed

  std::int64_t size() const { return size_; }  // -1: nobody knows, as of a pipe
  // What comes next, up to out.size() bytes; 0 at the end. `name` is for messages. Throws
  // UserError(kIo).
  std::size_t read(std::span<char> out, const std::string& name);

 private:
  Descriptor file_;
  std::int64_t size_ = -1;
};

}  // namespace lockstep
