// What appears whole under its final name, or not at all: a text, a file that grows, a directory.
// Everything grows under another name on the same file system, is synced, and is then renamed; the
// directory that holds the name is synced before anybody is told. All throw UserError(kIo) naming
// the path, the reason and the next action.
#pragma once

#include "files/file_system.h"
#include "files/lock.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace lockstep {

// A file written under PATH.tmp; removed again unless published. One writer per path.
class StagedFile {
 public:
  explicit StagedFile(std::string path, const FileSystem& files = {});
  ~StagedFile();
  StagedFile(const StagedFile&) = delete;
  StagedFile& operator=(const StagedFile&) = delete;

  void append(std::span<const std::byte> data);
  void write_at(std::int64_t offset, std::span<const std::byte> data);
  // Synced, named, and the name synced.
  void publish();

 private:
  [[noreturn]] void fail_write(int error);

  FileSystem files_;
  std::string path_;
  std::string temporary_;
  Descriptor file_;
  std::int64_t size_ = 0;
};

// The whole text under its name, in place of what stood there. One writer per path.
void atomic_write_file(const std::string& path, const std::string& text,
                       const FileSystem& files = {});

// The whole text under a name that nobody has; false if somebody has it. Of several callers, in any
// process on any host, exactly one gets true, and nobody ever sees a part of the text.
bool publish_new_file(const std::string& path, const std::string& text,
                      const FileSystem& files = {});

// Gives `staged`, a synced file or directory, the name `path`, on disk when this returns. What
// stood there stays whole until then; returns where it is afterwards ("" if there was nothing):
// under `staged`, or under `aside` where the file system cannot swap two names. A crash between two
// renames there leaves it under `aside` only.
std::string put_in_place(const std::string& staged, const std::string& path,
                         const std::string& aside, const FileSystem& files = {});

// A hidden directory where outputs grow. The process that holds its lock owns it; what a killed one
// left belongs to the next.
class StagingDirectory {
 public:
  // Makes the directory (its parent exists) and takes its lock. Throws UserError(kUsage) if another
  // process holds it: "WHO: another process is writing there; ...".
  StagingDirectory(std::string directory, const std::string& who, const FileSystem& files = {});
  ~StagingDirectory();  // removes it with all that is left in it
  StagingDirectory(const StagingDirectory&) = delete;
  StagingDirectory& operator=(const StagingDirectory&) = delete;

  const std::string& directory() const { return directory_; }
  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  // Removes what an earlier owner left.
  void clear();

 private:
  FileSystem files_;
  std::string directory_;
  FileLock lock_;
};

}  // namespace lockstep
