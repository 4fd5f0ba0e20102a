// The system calls of FileSystem, each behind the same question to the fault hook.
#include "files/file_system.h"

#include "core/error.h"
#include "files/free_space.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

namespace lockstep {
namespace {

// What the umask leaves of these, as every other program does it.
constexpr mode_t kFileMode = 0666;
constexpr mode_t kDirectoryMode = 0777;

int errno_unless(bool done) { return done ? 0 : errno; }

int flags_of(OpenMode mode) {
  switch (mode) {
    case OpenMode::kRead: return O_RDONLY | O_NONBLOCK;
    case OpenMode::kReadStream: return O_RDONLY;
    case OpenMode::kReadNoLink: return O_RDONLY | O_NONBLOCK | O_NOFOLLOW;
    case OpenMode::kNew: return O_RDWR | O_CREAT | O_EXCL;
    case OpenMode::kAppend: return O_WRONLY | O_CREAT | O_APPEND;
    case OpenMode::kUpdate: return O_RDWR | O_NONBLOCK;
    case OpenMode::kLock: return O_RDWR | O_CREAT | O_NONBLOCK | O_NOFOLLOW;
    case OpenMode::kDirectory: return O_RDONLY | O_DIRECTORY;
  }
  check_failed("mode", __FILE__, __LINE__, "no such way to open a file");
}

std::string advice(const std::string& path, int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return fmt::format("; {} are free there: free some space, or choose another directory",
                         bytes_text(free_bytes(parent_directory(path))));
    case EACCES:
    case EPERM:
    case EROFS: return "; give this user access to it, or choose another directory";
    case EMFILE:
    case ENFILE: return "; raise the limit of open files (ulimit -n)";
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case EISDIR: return "; check the path";
    case EFBIG: return "; raise the limit of file sizes (ulimit -f), or choose another disk";
    case ENAMETOOLONG: return "; choose a shorter name";
    default: return "; check the disk and its file system, then try again";
  }
}

}  // namespace

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

int FileSystem::open(Descriptor& out, const std::string& path, OpenMode mode) const {
  if (const int error = before(FileCall::kOpen, path); error != 0) return error;
  int value = -1;
  do {
    value = ::open(path.c_str(), flags_of(mode) | O_CLOEXEC, kFileMode);
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

int FileSystem::read_some(std::span<std::byte> out, std::size_t& got, const Descriptor& file,
                          const std::string& path) const {
  got = 0;
  for (;;) {
    int error = 0;
    const std::size_t size = allowed(FileCall::kRead, path, out.size(), error);
    const ssize_t n = error != 0 ? -1 : ::read(file.get(), out.data(), size);
    if (n < 0 && error == 0) error = errno;
    if (error == EINTR) continue;
    if (error == 0) got = static_cast<std::size_t>(n);
    return error;
  }
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

int FileSystem::append(std::size_t& put, const Descriptor& file, const std::string& path,
                       std::span<const std::byte> data) const {
  put = 0;
  while (put < data.size()) {
    int error = 0;
    const std::size_t size = allowed(FileCall::kWrite, path, data.size() - put, error);
    const ssize_t n = error != 0 ? -1 : ::write(file.get(), data.data() + put, size);
    if (n < 0 && error == 0) error = errno;
    if (error == EINTR) continue;
    if (error != 0) return error;
    if (n == 0) return EIO;
    put += static_cast<std::size_t>(n);
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

int FileSystem::link(const std::string& from, const std::string& to) const {
  if (const int error = before(FileCall::kLink, to); error != 0) return error;
  return errno_unless(::link(from.c_str(), to.c_str()) == 0);
}

int FileSystem::lock(const Descriptor& file, const std::string& path) const {
  if (const int error = before(FileCall::kLock, path); error != 0) return error;
  return errno_unless(::flock(file.get(), LOCK_EX | LOCK_NB) == 0);
}

int FileSystem::make_directory(const std::string& path) const {
  if (const int error = before(FileCall::kMakeDirectory, path); error != 0) return error;
  return errno_unless(::mkdir(path.c_str(), kDirectoryMode) == 0);
}

int FileSystem::remove_file(const std::string& path) const {
  if (const int error = before(FileCall::kRemove, path); error != 0) return error;
  return errno_unless(::remove(path.c_str()) == 0);
}

int FileSystem::remove_tree(const std::string& path) const {
  if (const int error = before(FileCall::kRemove, path); error != 0) return error;
  std::error_code status;
  std::filesystem::remove_all(path, status);
  return status.value();
}

int FileSystem::sync_directory(const std::string& path) const {
  Descriptor directory;
  const int opened = open(directory, path, OpenMode::kDirectory);
  if (opened == EACCES) return 0;
  if (opened != 0) return opened;
  int error = sync(directory, path);
  if (error == EINVAL) error = 0;  // file systems that keep no directory in memory refuse the call
  const int closed = close(directory, path);
  return error != 0 ? error : closed;
}

void fail_io(const std::string& path, const std::string& action, int error) {
  fail(ExitCode::kIo, "{}: cannot {}: {}{}", path, action, errno_text(error), advice(path, error));
}

std::string parent_directory(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path();
  return parent.empty() ? "." : parent;
}

std::string behind_link(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_symlink(path, error)) return path;
  const std::string real = std::filesystem::canonical(path, error);
  return error ? path : real;
}

bool is_bare_name(std::string_view name) {
  constexpr std::string_view kForbidden("/\\\0", 3);
  return !name.empty() && name.front() != '.' &&
         name.find_first_of(kForbidden) == std::string_view::npos;
}

}  // namespace lockstep
