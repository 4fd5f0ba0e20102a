// The system calls on files, in one class: every open, write, sync and rename of the project passes
// here, which is also where tests make the N-th call fail. New files and directories get the modes
// that the umask leaves. What is built from these calls: durable.h, staged.h, lock.h, input_file.h.
#pragma once

#include "files/descriptor.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace lockstep {

enum class FileCall {
  kOpen,
  kRead,
  kWrite,
  kSync,
  kTruncate,
  kClose,
  kRename,
  kLink,
  kLock,
  kMakeDirectory,
  kRemove
};

// How a file is opened. What a user names may be a link; what our own directories hold may not.
enum class OpenMode {
  kRead,        // follows links; a pipe is opened without waiting
  kReadStream,  // as kRead, but waits at a pipe until somebody writes
  kReadNoLink,  // ELOOP at a link
  kNew,         // to write and read; EEXIST if the name is taken
  kAppend,      // made where missing; every write goes to the end
  kUpdate,      // to write and read what is there; follows links
  kLock,        // made where missing; ELOOP at a link
  kDirectory    // follows links: a link to a directory is a directory
};

// Each call returns 0 or an errno, goes on after EINTR and completes short transfers.
class FileSystem {
 public:
  // Asked before each call: 0 goes on, an errno makes the call fail with it, kShortTransfer makes a
  // read or write move only half of its bytes.
  using Fault = std::function<int(FileCall call, const std::string& path)>;
  static constexpr int kShortTransfer = -1;

  FileSystem() = default;
  explicit FileSystem(Fault fault) : fault_(std::move(fault)) {}

  int open(Descriptor& out, const std::string& path, OpenMode mode) const;
  int read_at(std::span<std::byte> out, std::size_t& got, const Descriptor& file,
              const std::string& path, std::int64_t offset) const;  // got < size: end of file
  // Whatever comes next from a file or pipe, up to out.size(); got = 0: the end.
  int read_some(std::span<std::byte> out, std::size_t& got, const Descriptor& file,
                const std::string& path) const;
  int write_at(const Descriptor& file, const std::string& path, std::span<const std::byte> data,
               std::int64_t offset) const;
  // At the end of a file opened with kAppend; `put` bytes are written, also on failure.
  int append(std::size_t& put, const Descriptor& file, const std::string& path,
             std::span<const std::byte> data) const;
  int sync(const Descriptor& file, const std::string& path) const;
  int truncate(const Descriptor& file, const std::string& path, std::int64_t size) const;
  int close(Descriptor& file, const std::string& path) const;  // closed also on failure
  int rename(const std::string& from, const std::string& to) const;
  // Swaps two names at once; EINVAL, ENOSYS or EOPNOTSUPP where the file system cannot.
  int exchange(const std::string& a, const std::string& b) const;
  // A second name for a file; EEXIST if it is taken, on any host. EPERM, ENOSYS or EOPNOTSUPP where
  // there are no hard links.
  int link(const std::string& from, const std::string& to) const;
  // Waits for nobody: EWOULDBLOCK while another process holds it.
  int lock(const Descriptor& file, const std::string& path) const;
  int make_directory(const std::string& path) const;
  int remove_file(const std::string& path) const;  // or an empty directory
  int remove_tree(const std::string& path) const;  // links are removed, not followed
  // Names made, changed or removed in it are on disk. Directories that cannot be synced are taken
  // as they are: EINVAL from the file system, or one whose mode lets nobody open it (drop boxes).
  int sync_directory(const std::string& path) const;

 private:
  int before(FileCall call, const std::string& path) const;
  std::size_t allowed(FileCall call, const std::string& path, std::size_t size, int& error) const;

  Fault fault_;
};

// Throws UserError(kIo): "PATH: cannot ACTION: ERRNO; what to do".
[[noreturn]] void fail_io(const std::string& path, const std::string& action, int error);

// Where `path` stands: "." for a bare name.
std::string parent_directory(const std::string& path);

// What a link leads to, by its real path; a path that is no link, or leads nowhere, as it is. For
// what a user names: links inside our own directories are not followed.
std::string behind_link(const std::string& path);

// A file name that joined to a directory stays in it: no separator, not hidden, not empty.
bool is_bare_name(std::string_view name);

}  // namespace lockstep
