// Each step is on disk before the next one relies on it: content, then name, then whoever asks.
#include "files/staged.h"

#include "core/error.h"
#include "files/durable.h"

#include <sys/stat.h>

#include <cerrno>
#include <filesystem>
#include <random>
#include <vector>

namespace lockstep {
namespace {

constexpr int kAttempts = 100;
constexpr const char* kLockName = "lock";

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

bool cannot_swap(int error) { return error == EINVAL || error == ENOSYS || error == EOPNOTSUPP; }

bool is_directory_or_link(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 &&
         (S_ISDIR(status.st_mode) || S_ISLNK(status.st_mode));
}

// A new file beside `path`, under a name nobody else has, synced.
std::string write_beside(const std::string& path, const std::string& text,
                         const FileSystem& files) {
  std::random_device random;
  const std::string name = fmt::format("{}.{:08x}{:08x}", path, random(), random());
  write_new_file(name, text, files);
  return name;
}

}  // namespace

StagedFile::StagedFile(std::string path, const FileSystem& files)
    : files_(files), path_(std::move(path)), temporary_(path_ + ".tmp") {
  const int removed = FileSystem().remove_file(temporary_);  // what a crash left
  if (removed != 0 && removed != ENOENT) fail_io(temporary_, "remove", removed);
  const int error = files_.open(file_, temporary_, OpenMode::kNew);
  if (error != 0) fail_io(path_, "create", error);
}

StagedFile::~StagedFile() {
  if (!temporary_.empty()) FileSystem().remove_file(temporary_);
}

void StagedFile::fail_write(int error) { fail_io(path_, "write", error); }

void StagedFile::append(std::span<const std::byte> data) {
  write_at(size_, data);
  size_ += static_cast<std::int64_t>(data.size());
}

void StagedFile::write_at(std::int64_t offset, std::span<const std::byte> data) {
  if (const int error = files_.write_at(file_, temporary_, data, offset)) fail_write(error);
}

void StagedFile::publish() {
  if (const int error = files_.sync(file_, temporary_)) fail_write(error);
  if (const int error = files_.close(file_, temporary_)) fail_write(error);
  if (const int error = files_.rename(temporary_, path_)) fail_io(path_, "replace", error);
  temporary_.clear();
  sync_directory(parent_directory(path_), files_);
}

void atomic_write_file(const std::string& path, const std::string& text, const FileSystem& files) {
  StagedFile file(path, files);
  file.append(bytes_of(text));
  file.publish();
}

bool publish_new_file(const std::string& path, const std::string& text, const FileSystem& files) {
  const std::string temporary = write_beside(path, text, files);
  int error = files.link(temporary, path);
  struct stat status {};
  // Over NFS a link can succeed and its answer be lost; the link count tells.
  if (error != 0 && ::stat(temporary.c_str(), &status) == 0 && status.st_nlink == 2) error = 0;
  FileSystem().remove_file(temporary);
  if (error == EEXIST) return false;
  if (error == EPERM || error == EOPNOTSUPP || error == ENOSYS) {  // no hard links here
    Descriptor file;
    error = files.open(file, path, OpenMode::kNew);
    if (error == EEXIST) return false;
    if (error == 0) error = files.write_at(file, path, bytes_of(text), 0);
    if (error == 0) error = files.sync(file, path);
  }
  if (error != 0) fail_io(path, "create", error);
  sync_directory(parent_directory(path), files);
  return true;
}

std::string put_in_place(const std::string& staged, const std::string& path,
                         const std::string& aside, const FileSystem& files) {
  std::string old;
  int error = 0;
  if (!is_directory_or_link(path)) {
    error = files.rename(staged, path);
  } else {  // no rename replaces these: only a swap keeps the old one whole until the end
    old = staged;
    error = files.exchange(staged, path);
    if (cannot_swap(error)) {
      old = aside;
      error = files.rename(path, aside);
      if (error == 0) {
        error = files.rename(staged, path);
        if (error != 0) files.rename(aside, path);
      }
    }
  }
  if (error != 0) fail_io(path, "publish", error);
  sync_directory(parent_directory(path), files);
  return old;
}

StagingDirectory::StagingDirectory(std::string directory, const std::string& who,
                                   const FileSystem& files)
    : files_(files), directory_(std::move(directory)) {
  // An owner that leaves removes the directory under whoever waits for it.
  int error = ENOENT;
  for (int attempt = 0; attempt < kAttempts && (error == ENOENT || error == ESTALE); ++attempt) {
    error = files_.make_directory(directory_);
    if (error != 0 && error != EEXIST) fail_io(directory_, "create the directory", error);
    error = lock_.try_take(path(kLockName), files_);
  }
  if (error == EWOULDBLOCK) {
    fail(ExitCode::kUsage, "{}: another `lockstep` is writing there; wait for it or choose another",
         who);
  }
  // Where the file system has no locks nobody is kept out.
  if (error != 0 && !FileLock::is_unsupported(error)) fail_io(directory_, "lock", error);
}

// The lock goes last, so that whoever gets it finds the rest gone.
StagingDirectory::~StagingDirectory() {
  try {
    clear();
  } catch (const std::exception&) {
    return;  // the next owner clears it
  }
  files_.remove_file(path(kLockName));
  files_.remove_file(directory_);
}

void StagingDirectory::clear() {
  std::vector<std::string> names;
  std::error_code status;
  for (std::filesystem::directory_iterator it(directory_, status), end; !status && it != end;
       it.increment(status)) {
    if (it->path().filename() != kLockName) names.push_back(it->path());
  }
  if (status) fail_io(directory_, "list the directory", status.value());
  for (const std::string& name : names) {
    if (const int error = files_.remove_tree(name)) fail_io(name, "remove", error);
  }
}

}  // namespace lockstep
