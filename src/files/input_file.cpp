// pread, so that threads share a descriptor without sharing a position.
#include "files/input_file.h"

#include "core/error.h"
#include "files/free_space.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <cerrno>

namespace lockstep {
namespace {

void check_limit(const std::string& path, std::int64_t size, std::int64_t limit) {
  if (size <= limit) return;
  fail(ExitCode::kData, "{}: has {} where at most {} make sense: it is damaged or another file",
       path, bytes_text(size), bytes_text(limit));
}

// Descriptors count from 0 up, so a high number means that many are open.
bool is_high(const Descriptor& file) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return false;
  return static_cast<rlim_t>(file.get()) >= limit.rlim_cur / 2;
}

struct stat status_of(const Descriptor& file, const std::string& path) {
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail_io(path, "look at", errno);
  return status;
}

}  // namespace

InputFile::InputFile(const std::string& path, const std::string& what) : path_(path) {
  const int error = FileSystem().open(file_, path, OpenMode::kRead);
  if (error != 0) {
    fail(ExitCode::kData, "{}: cannot open: {}; expected {}", path, errno_text(error), what);
  }
  const struct stat status = status_of(file_, path);
  if (!S_ISREG(status.st_mode)) {
    fail(ExitCode::kData, "{}: is {}; expected {}", path,
         S_ISDIR(status.st_mode) ? "a directory" : "not a regular file", what);
  }
  size_ = status.st_size;
  device_ = status.st_dev;
  inode_ = status.st_ino;
  if (is_high(file_)) file_.reset();
}

void InputFile::read(std::span<std::byte> out, std::int64_t offset) const {
  Descriptor again;
  if (!file_) {
    if (const int error = FileSystem().open(again, path_, OpenMode::kRead)) {
      fail_io(path_, "open again", error);
    }
    const struct stat status = status_of(again, path_);
    if (status.st_dev != device_ || status.st_ino != inode_) {
      fail(ExitCode::kData, "{}: was replaced while in use; leave it alone and run again", path_);
    }
  }
  std::size_t got = 0;
  if (const int error = FileSystem().read_at(out, got, file_ ? file_ : again, path_, offset)) {
    fail_io(path_, "read", error);
  }
  if (got == out.size()) return;
  const std::int64_t end = offset + static_cast<std::int64_t>(got);
  if (end < size_) {
    fail(ExitCode::kData,
         "{}: was cut short while in use: it had {} bytes, and byte {} is missing; copy it again, "
         "and leave it alone while it is read",
         path_, size_, end);
  }
  fail(ExitCode::kData, "{}: ends at byte {}, before what is needed of it; copy it again", path_,
       end);
}

std::string InputFile::text(std::int64_t limit) const {
  check_limit(path_, size_, limit);
  std::string text(static_cast<std::size_t>(size_), '\0');
  read(std::as_writable_bytes(std::span(text.data(), text.size())), 0);
  return text;
}

Descriptor open_regular(std::int64_t& size, const std::string& path, const FileSystem& files) {
  Descriptor file;
  const int error = files.open(file, path, OpenMode::kReadNoLink);
  if (error == ENOENT || error == ENOTDIR) fail(ExitCode::kData, "{}: the file is missing", path);
  if (error == ELOOP) {
    fail(ExitCode::kData, "{}: is a link, which is not followed: put the file itself there", path);
  }
  if (error != 0) fail_io(path, "open", error);
  const struct stat status = status_of(file, path);
  if (!S_ISREG(status.st_mode)) {
    fail(ExitCode::kData, "{}: is not a regular file: put the file itself there", path);
  }
  size = status.st_size;
  return file;
}

std::string read_file(const std::string& path, std::int64_t limit, const FileSystem& files) {
  std::int64_t size = 0;
  const Descriptor file = open_regular(size, path, files);
  check_limit(path, size, limit);
  std::string text(static_cast<std::size_t>(size), '\0');
  std::size_t got = 0;
  const auto out = std::as_writable_bytes(std::span(text.data(), text.size()));
  const int error = files.read_at(out, got, file, path, 0);
  if (error != 0) fail_io(path, "read", error);
  text.resize(got);
  return text;
}

}  // namespace lockstep
