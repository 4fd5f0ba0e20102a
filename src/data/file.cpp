// POSIX calls behind file.h, retried when a signal interrupts them.
#include "data/file.h"

#include "core/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

namespace lockstep {
namespace {

std::string parent_of(const std::string& path) {
  const auto parent = std::filesystem::path(path).parent_path();
  return parent.empty() ? "." : parent.string();
}

}  // namespace

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

OpenFile open_for_read(const std::string& path, const std::string& what) {
  OpenFile file;
  file.fd = Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status {};
  if (file.fd.get() < 0 || ::fstat(file.fd.get(), &status) != 0) {
    fail(ExitCode::kData, "{}: cannot open: {}; expected {}", path, errno_text(errno), what);
  }
  if (S_ISDIR(status.st_mode)) {
    fail(ExitCode::kData, "{}: is a directory; expected {}", path, what);
  }
  file.bytes = S_ISREG(status.st_mode) ? static_cast<std::int64_t>(status.st_size) : -1;
  return file;
}

Fd create_file(const std::string& path) {
  Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (fd.get() < 0) fail_write(path, errno);
  return fd;
}

std::size_t read_some(const Fd& fd, void* data, std::size_t size, const std::string& path) {
  while (true) {
    const ssize_t got = ::read(fd.get(), data, size);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) fail(ExitCode::kIo, "{}: cannot read: {}", path, errno_text(errno));
  }
}

void read_at(const Fd& fd, void* data, std::size_t size, std::int64_t offset,
             const std::string& path) {
  auto* to = static_cast<char*>(data);
  while (size > 0) {
    const ssize_t got = ::pread(fd.get(), to, size, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(ExitCode::kIo, "{}: cannot read: {}", path, errno_text(errno));
    if (got == 0) {
      fail(ExitCode::kData, "{}: ends at byte {} while being read; leave it alone and run again",
           path, offset);
    }
    to += got;
    offset += got;
    size -= static_cast<std::size_t>(got);
  }
}

void write_all(const Fd& fd, const void* data, std::size_t size, const std::string& path) {
  const auto* from = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t put = ::write(fd.get(), from, size);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail_write(path, errno);
    from += put;
    size -= static_cast<std::size_t>(put);
  }
}

void sync_file(const Fd& fd, const std::string& path) {
  if (::fsync(fd.get()) != 0) fail_write(path, errno);
}

void sync_directory(const std::string& path) {
  const Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Some network file systems cannot sync a directory and say EINVAL.
  if (fd.get() < 0 || (::fsync(fd.get()) != 0 && errno != EINVAL)) fail_write(path, errno);
}

void rename_path(const std::string& from, const std::string& to) {
  if (std::rename(from.c_str(), to.c_str()) != 0) fail_write(to, errno);
}

void fail_write(const std::string& path, int error) {
  std::error_code ignored;
  const auto space = std::filesystem::space(parent_of(path), ignored);
  std::string free = "unknown space";
  if (!ignored) free = fmt::format("{:.1f} MiB", static_cast<double>(space.available) / 1048576.0);
  fail(ExitCode::kIo, "{}: cannot write: {} ({} free there); make room or choose another place",
       path, errno_text(error), free);
}

}  // namespace lockstep
