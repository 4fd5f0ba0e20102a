// One open, one map. The descriptor is closed at once: a model may have hundreds of files.
#include "files/mapped_file.h"

#include "core/error.h"
#include "files/file_system.h"
#include "files/free_space.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>
#include <utility>

namespace lockstep {

MappedFile::MappedFile(const std::string& path) : path_(path) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file && (errno == ENOENT || errno == ENOTDIR)) {
    fail(ExitCode::kData, "{}: the file is missing", path);
  }
  if (!file) fail_io(path, "open", errno);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail_io(path, "look at", errno);
  if (!S_ISREG(status.st_mode)) fail(ExitCode::kData, "{}: is not a regular file", path);
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) fail_io(path, "map", errno);
  data_ = static_cast<const std::byte*>(data);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

std::string_view MappedFile::text(std::size_t limit) const {
  if (size_ > limit) {
    fail(ExitCode::kData, "{}: has {} where at most {} make sense: it is damaged or another file",
         path_, bytes_text(static_cast<std::int64_t>(size_)),
         bytes_text(static_cast<std::int64_t>(limit)));
  }
  return {reinterpret_cast<const char*>(data_), size_};
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace lockstep
