// The name is looked at again once the lock is held: whoever held it before may have removed the
// file, and a lock on a file without a name keeps nobody out.
#include "files/lock.h"

#include <sys/stat.h>

#include <cerrno>
#include <utility>

namespace lockstep {

int FileLock::try_take(const std::string& path, const FileSystem& files) {
  Descriptor file;
  if (const int error = files.open(file, path, OpenMode::kLock)) return error;
  if (const int error = files.lock(file, path)) return error;
  if (!is_same_file(file, path)) return ESTALE;
  file_ = std::move(file);
  return 0;
}

bool FileLock::is_unsupported(int error) {
  return error == ENOLCK || error == ENOSYS || error == EOPNOTSUPP || error == EINVAL;
}

bool is_same_file(const Descriptor& file, const std::string& path) {
  struct stat open {
  }, named{};
  return file && ::fstat(file.get(), &open) == 0 && ::stat(path.c_str(), &named) == 0 &&
         open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

}  // namespace lockstep
