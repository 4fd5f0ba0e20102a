// The system calls of FileSystem, each behind the same question to the fault hook.
#include "files/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <utility>

namespace lockstep {
namespace {

constexpr mode_t kFileMode = 0640;
constexpr mode_t kDirectoryMode = 0750;

int errno_unless(bool done) { return done ? 0 : errno; }

}  // namespace

Descriptor::~Descriptor() {
  if (value_ >= 0) ::close(value_);
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    if (value_ >= 0) ::close(value_);
    value_ = other.release();
  }
  return *this;
}

int Descriptor::release() { return std::exchange(value_, -1); }

int FileSystem::before(FileCall call, const std::string& path) const {
  if (!fault_) return 0;
  for (;;) {
    const int error = fault_(call, path);
    if (error == EINTR) continue;  // what every call below does with a real one
    return error == kShortTransfer ? 0 : error;
  }
}

std::size_t FileSystem::allowed(FileCall call, const std::string& path, std::size_t size,
                                int& error) const {
  error = fault_ ? fault_(call, path) : 0;
  if (error != kShortTransfer) return size;
  error = 0;
  return size > 1 ? size / 2 : size;
}

int FileSystem::open(Descriptor& out, const std::string& path, int flags) const {
  if (const int error = before(FileCall::kOpen, path); error != 0) return error;
  int value = -1;
  do {
    value = ::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, kFileMode);
  } while (value < 0 && errno == EINTR);
  if (value < 0) return errno;
  out = Descriptor(value);
  return 0;
}

int FileSystem::read_at(std::span<std::byte> out, std::size_t& got, const Descriptor& file,
                        const std::string& path, std::int64_t offset) const {
  got = 0;
  while (got < out.size()) {
    int error = 0;
    const std::size_t size = allowed(FileCall::kRead, path, out.size() - got, error);
    const ssize_t n = error != 0 ? -1
                                 : ::pread(file.get(), out.data() + got, size,
                                           offset + static_cast<std::int64_t>(got));
    if (n < 0 && error == 0) error = errno;
    if (error == EINTR) continue;
    if (error != 0) return error;
    if (n == 0) return 0;
    got += static_cast<std::size_t>(n);
  }
  return 0;
}

int FileSystem::write_at(const Descriptor& file, const std::string& path,
                         std::span<const std::byte> data, std::int64_t offset) const {
  while (!data.empty()) {
    int error = 0;
    const std::size_t size = allowed(FileCall::kWrite, path, data.size(), error);
    const ssize_t n = error != 0 ? -1 : ::pwrite(file.get(), data.data(), size, offset);
    if (n < 0 && error == 0) error = errno;
    if (error == EINTR) continue;
    if (error != 0) return error;
    if (n == 0) return EIO;
    data = data.subspan(static_cast<std::size_t>(n));
    offset += n;
  }
  return 0;
}

int FileSystem::sync(const Descriptor& file, const std::string& path) const {
  if (const int error = before(FileCall::kSync, path); error != 0) return error;
  return errno_unless(::fsync(file.get()) == 0);
}

int FileSystem::truncate(const Descriptor& file, const std::string& path, std::int64_t size) const {
  if (const int error = before(FileCall::kTruncate, path); error != 0) return error;
  int result = 0;
  do {
    result = ::ftruncate(file.get(), size);
  } while (result != 0 && errno == EINTR);
  return errno_unless(result == 0);
}

int FileSystem::close(Descriptor& file, const std::string& path) const {
  const int injected = before(FileCall::kClose, path);
  // Linux has closed the descriptor even when close() reports EINTR.
  const int error = errno_unless(::close(file.release()) == 0);
  if (injected != 0) return injected;
  return error == EINTR ? 0 : error;
}

int FileSystem::rename(const std::string& from, const std::string& to) const {
  if (const int error = before(FileCall::kRename, to); error != 0) return error;
  return errno_unless(::rename(from.c_str(), to.c_str()) == 0);
}

int FileSystem::exchange(const std::string& a, const std::string& b) const {
  if (const int error = before(FileCall::kRename, b); error != 0) return error;
  return errno_unless(::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0);
}

int FileSystem::make_directory(const std::string& path) const {
  if (const int error = before(FileCall::kMakeDirectory, path); error != 0) return error;
  return errno_unless(::mkdir(path.c_str(), kDirectoryMode) == 0);
}

int FileSystem::remove_file(const std::string& path) const {
  if (const int error = before(FileCall::kRemove, path); error != 0) return error;
  return errno_unless(::unlink(path.c_str()) == 0);
}

int FileSystem::remove_tree(const std::string& path) const {
  if (const int error = before(FileCall::kRemove, path); error != 0) return error;
  std::error_code status;
  std::filesystem::remove_all(path, status);
  return status.value();
}

int FileSystem::sync_directory(const std::string& path) const {
  Descriptor directory;
  if (const int error = open(directory, path, O_RDONLY | O_DIRECTORY); error != 0) return error;
  int error = sync(directory, path);
  if (error == EINVAL) error = 0;  // file systems that keep no directory in memory refuse the call
  const int closed = close(directory, path);
  return error != 0 ? error : closed;
}

}  // namespace lockstep
