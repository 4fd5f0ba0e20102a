// A directory whose lock is free belongs to nobody alive. The lock is taken before anything is
// written or removed, and the name is looked at again afterwards, so that a cleaner and a starter
// who meet at one directory cannot both believe it theirs.
#include "formats/export_staging.h"

#include "core/error.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <vector>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

constexpr int kAttempts = 100;
constexpr const char* kOld = "old";  // what a replacement without exchange moves away

std::string parent_of(const std::string& path) {
  const std::string parent = fs::path(path).parent_path();
  return parent.empty() ? "." : parent;
}

bool exists(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}

bool same_file(const Descriptor& file, const std::string& path) {
  struct stat open {
  }, named{};
  return ::fstat(file.get(), &open) == 0 && ::lstat(path.c_str(), &named) == 0 &&
         open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

bool starts_with_gguf(const std::string& path) {
  Descriptor file;
  std::array<std::byte, 4> magic{};
  std::size_t got = 0;
  const FileSystem files;
  return files.open(file, path, O_RDONLY) == 0 && files.read_at(magic, got, file, path, 0) == 0 &&
         got == magic.size() &&
         std::string_view(reinterpret_cast<const char*>(magic.data()), 4) == "GGUF";
}

void check_replaceable(const std::string& target, ExportKind kind) {
  std::error_code ignored;
  if (kind == ExportKind::kFile) {
    if (starts_with_gguf(target) || fs::is_empty(target, ignored)) return;
    fail(ExitCode::kUsage, "--out {}: is no GGUF file, so --overwrite does not replace it", target);
  }
  if (fs::exists(target + "/export.json", ignored)) return;
  fail(ExitCode::kUsage,
       "--out {}: holds no export.json, so it is no export and --overwrite does not replace it; "
       "name another directory",
       target);
}

void sync_tree(const std::string& path, const FileSystem& files) {
  if (!fs::is_directory(path)) {
    Descriptor file;
    int error = files.open(file, path, O_RDONLY);
    if (error == 0) error = files.sync(file, path);
    if (error != 0) fail_io(path, "sync", error);
    return;
  }
  for (const auto& entry : fs::directory_iterator(path)) sync_tree(entry.path(), files);
  if (const int error = files.sync_directory(path); error != 0) fail_io(path, "sync", error);
}

}  // namespace

void check_export_target(const std::string& target, ExportKind kind, bool overwrite) {
  const std::string name = fs::path(target).filename();
  if (name.empty() || name == "." || name == "..") {
    fail(ExitCode::kUsage, "--out '{}': give the name of the {} to write", target,
         kind == ExportKind::kFile ? "file" : "directory");
  }
  std::error_code ignored;
  const bool directory = fs::is_directory(target, ignored);
  if (!exists(target) ||
      (directory && kind == ExportKind::kDirectory && fs::is_empty(target, ignored))) {
    return;
  }
  if (directory != (kind == ExportKind::kDirectory)) {
    fail(ExitCode::kUsage, "--out {}: is a {}, and this format is a {}; give another name", target,
         directory ? "directory" : "file", directory ? "file" : "directory");
  }
  if (!overwrite) {
    fail(ExitCode::kUsage, "--out {}: exists; replace it with --overwrite, or give another name",
         target);
  }
  check_replaceable(target, kind);
}

ExportStaging::ExportStaging(const std::string& target, const FileSystem& files)
    : files_(files),
      target_(target),
      prefix_("." + fs::path(target).filename().string() + ".export-") {
  make_directories(parent_of(target), files_);
  remove_stale();
  make_directory();
}

ExportStaging::~ExportStaging() {
  if (!directory_.empty()) files_.remove_tree(directory_);
}

// False when another process holds it, or when it is gone.
bool ExportStaging::lock(const std::string& directory, Descriptor& out) const {
  const std::string path = directory + "/lock";
  if (files_.open(out, path, O_RDWR | O_CREAT) != 0) return false;
  return ::flock(out.get(), LOCK_EX | LOCK_NB) == 0 && same_file(out, path);
}

void ExportStaging::make_directory() {
  int error = EEXIST;
  std::string path;
  for (int attempt = 0; attempt < kAttempts && error == EEXIST; ++attempt) {
    path = fmt::format("{}/{}{}-{}", parent_of(target_), prefix_, ::getpid(), attempt);
    error = files_.make_directory(path);
    // Where the file system has no locks, the name alone has to do.
    if (error == 0 && !lock(path, lock_) && !exists(path)) error = EEXIST;
  }
  if (error != 0) fail_io(path, "create the directory", error);
  directory_ = path;
}

void ExportStaging::remove_stale() const {
  std::error_code ignored;
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(parent_of(target_), ignored)) {
    if (entry.path().filename().string().starts_with(prefix_) && !entry.is_symlink()) {
      found.push_back(entry.path());
    }
  }
  for (const std::string& directory : found) {
    Descriptor held;
    if (!lock(directory, held)) continue;
    const std::string old = directory + "/" + kOld;
    if (exists(old) && !exists(target_)) files_.rename(old, target_);
    files_.remove_tree(directory);
  }
}

void ExportStaging::publish(const std::string& name, const std::string& final_path) {
  const std::string from = path(name);
  sync_tree(from, files_);
  int error = files_.rename(from, final_path);
  if (error == ENOTEMPTY || error == EEXIST) {
    error = files_.exchange(from, final_path);
    if (error == EINVAL || error == ENOSYS || error == EOPNOTSUPP) {
      error = files_.rename(final_path, path(kOld));
      if (error == 0) {
        error = files_.rename(from, final_path);
        if (error != 0) files_.rename(path(kOld), final_path);
      }
    }
  }
  if (error != 0) fail_io(final_path, "publish the export", error);
  error = files_.sync_directory(parent_of(final_path));
  if (error != 0) fail_io(parent_of(final_path), "sync the directory", error);
}

}  // namespace lockstep
