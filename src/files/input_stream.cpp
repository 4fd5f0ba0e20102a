// Only regular files have a size to tell.
#include "files/input_stream.h"

#include "core/error.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace lockstep {

InputStream::InputStream(const std::string& path, const std::string& what) {
  int error = FileSystem().open(file_, path, OpenMode::kReadStream);
  struct stat status {};
  if (error == 0 && ::fstat(file_.get(), &status) != 0) error = errno;
  if (error != 0) {
    fail(ExitCode::kData, "{}: cannot open: {}; expected {}", path, errno_text(error), what);
  }
  if (S_ISDIR(status.st_mode)) {
    fail(ExitCode::kData, "{}: is a directory; expected {}", path, what);
  }
  if (S_ISREG(status.st_mode)) size_ = status.st_size;
}

InputStream InputStream::standard_input() {
  InputStream stream;
  stream.file_ = Descriptor(::dup(STDIN_FILENO));
  if (stream.file_) return stream;
  fail(ExitCode::kData, "standard input: cannot read: {}", errno_text(errno));
}

std::size_t InputStream::read(std::span<char> out, const std::string& name) {
  std::size_t got = 0;
  const int error = FileSystem().read_some(std::as_writable_bytes(out), got, file_, name);
  if (error != 0) fail_io(name, "read", error);
  return got;
}

}  // namespace lockstep
