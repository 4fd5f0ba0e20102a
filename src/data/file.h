// Files as the data room uses them: an owning descriptor, whole reads and writes, durable renames.
// Every failure is one line that names the path and the reason; a failed write adds the free space.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace lockstep {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd();
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

// What a path is once opened: regular files have a size, pipes and terminals have -1.
struct OpenFile {
  Fd fd;
  std::int64_t bytes = 0;
};

// Opens a file for reading. `what` says what was expected there ("a token shard"). Throws
// UserError(kData): missing, unreadable, or a directory.
OpenFile open_for_read(const std::string& path, const std::string& what);

// Creates or truncates. Throws UserError(kIo).
Fd create_file(const std::string& path);

// Up to `size` bytes from the current position; 0 at the end. Throws UserError(kIo).
std::size_t read_some(const Fd& fd, void* data, std::size_t size, const std::string& path);
// Exactly `size` bytes from `offset`. Throws UserError(kData) if the file is shorter.
void read_at(const Fd& fd, void* data, std::size_t size, std::int64_t offset,
             const std::string& path);
// All bytes, at the current position. Throws UserError(kIo) with the free space.
void write_all(const Fd& fd, const void* data, std::size_t size, const std::string& path);

// Durable on return. Throw UserError(kIo).
void sync_file(const Fd& fd, const std::string& path);
void sync_directory(const std::string& path);
void rename_path(const std::string& from, const std::string& to);

// Throws UserError(kIo) with path, reason and the space left on that file system.
[[noreturn]] void fail_write(const std::string& path, int error);

}  // namespace lockstep
