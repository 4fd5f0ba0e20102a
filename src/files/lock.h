// A file that one process holds at a time, by flock(2). The lock goes with the process, however it
// ends. It reaches other hosts where the file system carries flock: NFS does for files (never for
// directories, where it stays on the host), Lustre and others by mount option. So it keeps order
// between processes; what must hold on every host is decided by names: publish_new_file().
#pragma once

#include "files/file_system.h"

#include <string>

namespace lockstep {

class FileLock {
 public:
  // Makes the file where missing; waits for nobody. 0: held until release() or the end of this
  // object. EWOULDBLOCK: another process holds it. ESTALE: it was removed meanwhile, try again.
  // Else the errno of opening or locking, see is_unsupported().
  int try_take(const std::string& path, const FileSystem& files = {});
  bool held() const { return static_cast<bool>(file_); }
  void release() { file_.reset(); }  // the file stays

  // The file system has no locks.
  static bool is_unsupported(int error);

 private:
  Descriptor file_;
};

// The open file still stands under this name.
bool is_same_file(const Descriptor& file, const std::string& path);

}  // namespace lockstep
