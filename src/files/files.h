// Files as checkpoints need them: created exclusively, synced, replaced by rename, never followed
// through a link. Every system call passes through FileSystem, which is also where tests make the
// N-th call fail; the functions below it throw UserError(kIo) naming the path and the next action.
#pragma once

#include "core/progress.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace lockstep {

// An open file, closed on destruction.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : value_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  int get() const { return value_; }
  explicit operator bool() const { return value_ >= 0; }
  int release();

 private:
  int value_ = -1;
};

enum class FileCall {
  kOpen,
  kRead,
  kWrite,
  kSync,
  kTruncate,
  kClose,
  kRename,
  kMakeDirectory,
  kRemove
};

// The system calls. Each returns 0 or an errno, goes on after EINTR and completes short transfers.
class FileSystem {
 public:
  // Asked before each call: 0 goes on, an errno makes the call fail with it, kShortTransfer makes a
  // read or write move only half of its bytes.
  using Fault = std::function<int(FileCall call, const std::string& path)>;
  static constexpr int kShortTransfer = -1;

  FileSystem() = default;
  explicit FileSystem(Fault fault) : fault_(std::move(fault)) {}

  // Never follows a link in the last component, never blocks on a pipe. New files get mode 0640.
  int open(Descriptor& out, const std::string& path, int flags) const;
  int read_at(std::span<std::byte> out, std::size_t& got, const Descriptor& file,
              const std::string& path, std::int64_t offset) const;  // got < size: end of file
  int write_at(const Descriptor& file, const std::string& path, std::span<const std::byte> data,
               std::int64_t offset) const;
  int sync(const Descriptor& file, const std::string& path) const;
  int truncate(const Descriptor& file, const std::string& path, std::int64_t size) const;
  int close(Descriptor& file, const std::string& path) const;  // closed also on failure
  int rename(const std::string& from, const std::string& to) const;
  // Swaps two names at once; EINVAL, ENOSYS or EOPNOTSUPP where the file system cannot.
  int exchange(const std::string& a, const std::string& b) const;
  int make_directory(const std::string& path) const;  // mode 0750
  int remove_file(const std::string& path) const;
  int remove_tree(const std::string& path) const;  // links are removed, not followed
  int sync_directory(const std::string& path) const;

 private:
  int before(FileCall call, const std::string& path) const;
  std::size_t allowed(FileCall call, const std::string& path, std::size_t size, int& error) const;

  Fault fault_;
};

// Throws UserError(kIo): "PATH: cannot ACTION: ERRNO; what to do".
[[noreturn]] void fail_io(const std::string& path, const std::string& action, int error);

// A file name that joined to a directory stays in it: no separator, not hidden, not empty.
bool is_bare_name(std::string_view name);

// "1.7 GiB".
std::string bytes_text(std::int64_t bytes);

// The directory and its missing parents.
void make_directories(const std::string& path, const FileSystem& files = {});

// A file that appears complete and durable, or not at all: PATH.tmp, sync, rename, sync directory.
// One writer per path.
void atomic_write_file(const std::string& path, const std::string& text,
                       const FileSystem& files = {});
// A new file, synced; the name is not durable until its directory is synced.
void write_new_file(const std::string& path, const std::string& text, const FileSystem& files = {});
// Creates the file if nobody has; false when it exists. The first of several callers wins.
bool create_exclusive(const std::string& path, const std::string& text,
                      const FileSystem& files = {});

// A regular file's content. Throws UserError(kData) when missing, not regular or above `limit`.
std::string read_file(const std::string& path, std::int64_t limit, const FileSystem& files = {});

// Opens a regular file for reading and gives its size; the same errors as read_file.
Descriptor open_regular(std::int64_t& size, const std::string& path, const FileSystem& files = {});

// SHA-256 in lower-case hex; `progress` is called for each piece read.
std::string sha256_file(const std::string& path, const FileSystem& files = {});
std::string sha256_of(const Descriptor& file, const std::string& path, const FileSystem& files = {},
                      const Progress& progress = {});

// Bytes free to this user on the disk that holds `directory` (or its nearest existing parent);
// -1 if the system does not say.
std::int64_t free_bytes(const std::string& directory);
// Throws UserError(kIo) naming directory, bytes needed and bytes free.
void require_free_space(const std::string& directory, std::int64_t bytes);

}  // namespace lockstep
