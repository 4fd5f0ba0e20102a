// The functions built from FileSystem's calls: whole files, directories, free space, errors.
#include "files/files.h"

#include "core/error.h"
#include "files/sha256.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <vector>

namespace lockstep {
namespace {

constexpr std::size_t kReadBytes = std::size_t{1} << 20;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string parent_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path();
  return parent.empty() ? "." : parent;
}

std::string advice(const std::string& path, int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return fmt::format("; {} are free there: free some space, or choose another directory",
                         bytes_text(free_bytes(parent_of(path))));
    case EACCES:
    case EPERM:
    case EROFS: return "; give this user access to it, or choose another directory";
    case EMFILE:
    case ENFILE: return "; raise the limit of open files (ulimit -n)";
    default: return "; check the disk and its file system, then try again";
  }
}

// Fills a file that was just opened and syncs it; removes it again when that fails.
void fill_file(Descriptor& file, const std::string& path, const std::string& text,
               const FileSystem& files) {
  int error = files.write_at(file, path, bytes_of(text), 0);
  if (error == 0) error = files.sync(file, path);
  const int closed = files.close(file, path);
  if (error == 0) error = closed;
  if (error == 0) return;
  ::unlink(path.c_str());
  fail_io(path, "write", error);
}

}  // namespace

void fail_io(const std::string& path, const std::string& action, int error) {
  fail(ExitCode::kIo, "{}: cannot {}: {}{}", path, action, errno_text(error), advice(path, error));
}

bool is_bare_name(std::string_view name) {
  constexpr std::string_view kForbidden("/\\\0", 3);
  return !name.empty() && name.front() != '.' &&
         name.find_first_of(kForbidden) == std::string_view::npos;
}

std::string bytes_text(std::int64_t bytes) {
  static constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 0) return "an unknown number of bytes";
  if (bytes < 1024) return fmt::format("{} bytes", bytes);
  double value = static_cast<double>(bytes) / 1024.0;
  std::size_t unit = 0;
  for (; value >= 1024.0 && unit + 1 < kUnits.size(); ++unit) value /= 1024.0;
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

void make_directories(const std::string& path, const FileSystem& files) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return;
  const std::string parent = parent_of(path);
  if (parent != path) make_directories(parent, files);
  const int error = files.make_directory(path);
  if (error != 0 && !(error == EEXIST && std::filesystem::is_directory(path, ignored))) {
    fail_io(path, "create the directory", error);
  }
}

void write_new_file(const std::string& path, const std::string& text, const FileSystem& files) {
  Descriptor file;
  const int error = files.open(file, path, O_WRONLY | O_CREAT | O_EXCL);
  if (error != 0) fail_io(path, "create", error);
  fill_file(file, path, text, files);
}

void atomic_write_file(const std::string& path, const std::string& text, const FileSystem& files) {
  const std::string temporary = path + ".tmp";
  if (::unlink(temporary.c_str()) != 0 && errno != ENOENT) fail_io(temporary, "remove", errno);
  write_new_file(temporary, text, files);
  if (const int error = files.rename(temporary, path); error != 0) {
    ::unlink(temporary.c_str());
    fail_io(path, "replace", error);
  }
  const int error = files.sync_directory(parent_of(path));
  if (error != 0) fail_io(parent_of(path), "sync the directory", error);
}

bool create_exclusive(const std::string& path, const std::string& text, const FileSystem& files) {
  Descriptor file;
  const int error = files.open(file, path, O_WRONLY | O_CREAT | O_EXCL);
  if (error == EEXIST) return false;
  if (error != 0) fail_io(path, "create", error);
  fill_file(file, path, text, files);
  return true;
}

Descriptor open_regular(std::int64_t& size, const std::string& path, const FileSystem& files) {
  Descriptor file;
  const int error = files.open(file, path, O_RDONLY);
  if (error == ENOENT || error == ENOTDIR) fail(ExitCode::kData, "{}: the file is missing", path);
  if (error == ELOOP) {
    fail(ExitCode::kData, "{}: is a link, which is not followed: put the file itself there", path);
  }
  if (error != 0) fail_io(path, "open", error);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail_io(path, "look at", errno);
  if (!S_ISREG(status.st_mode)) {
    fail(ExitCode::kData, "{}: is not a regular file: put the file itself there", path);
  }
  size = status.st_size;
  return file;
}

std::string read_file(const std::string& path, std::int64_t limit, const FileSystem& files) {
  std::int64_t size = 0;
  const Descriptor file = open_regular(size, path, files);
  if (size > limit) {
    fail(ExitCode::kData, "{}: has {} where at most {} make sense: it is damaged or another file",
         path, bytes_text(size), bytes_text(limit));
  }
  std::string text(static_cast<std::size_t>(size), '\0');
  std::size_t got = 0;
  const auto out = std::as_writable_bytes(std::span(text.data(), text.size()));
  const int error = files.read_at(out, got, file, path, 0);
  if (error != 0) fail_io(path, "read", error);
  text.resize(got);
  return text;
}

std::string sha256_of(const Descriptor& file, const std::string& path, const FileSystem& files,
                      const Progress& progress) {
  Sha256 hash;
  std::vector<std::byte> buffer(kReadBytes);
  std::int64_t offset = 0;
  for (;;) {
    std::size_t got = 0;
    const int error = files.read_at(buffer, got, file, path, offset);
    if (error != 0) fail_io(path, "read", error);
    hash.update(std::span(buffer).first(got));
    report(progress);
    offset += static_cast<std::int64_t>(got);
    if (got < buffer.size()) return to_hex(hash.finish());
  }
}

std::string sha256_file(const std::string& path, const FileSystem& files) {
  std::int64_t size = 0;
  const Descriptor file = open_regular(size, path, files);
  return sha256_of(file, path, files);
}

std::int64_t free_bytes(const std::string& directory) {
  struct statvfs status {};
  std::string path = directory;
  while (::statvfs(path.c_str(), &status) != 0) {
    const std::string parent = parent_of(path);
    if (errno != ENOENT || parent == path) return -1;
    path = parent;
  }
  return static_cast<std::int64_t>(status.f_bavail) * static_cast<std::int64_t>(status.f_frsize);
}

void require_free_space(const std::string& directory, std::int64_t bytes) {
  const std::int64_t free = free_bytes(directory);
  if (free < 0 || free >= bytes) return;
  fail(ExitCode::kIo,
       "{}: {} are needed and {} are free: free some space, or choose another "
       "directory",
       directory, bytes_text(bytes), bytes_text(free));
}

}  // namespace lockstep
