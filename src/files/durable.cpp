// A name is on disk only when the directory that holds it is, so each new level syncs its parent.
#include "files/durable.h"

#include "core/error.h"

#include <cerrno>
#include <filesystem>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_directory(const std::string& path, int error) {
  std::error_code ignored;
  if (error == EEXIST && fs::is_symlink(path, ignored)) {
    fail(ExitCode::kIo,
         "{}: is a link to {}, which is no directory: make that one, or remove the "
         "link",
         path, fs::read_symlink(path, ignored).string());
  }
  if (error == EEXIST) {
    fail(ExitCode::kIo, "{}: is a file where a directory is needed: choose another name", path);
  }
  fail_io(path, "create the directory", error);
}

}  // namespace

void make_directories(const std::string& path, const FileSystem& files) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return;
  const std::string parent = parent_directory(path);
  if (parent != path) make_directories(parent, files);
  const int error = files.make_directory(path);
  if (error != 0 && !(error == EEXIST && fs::is_directory(path, ignored))) {
    fail_directory(path, error);
  }
  sync_directory(parent, files);
}

void sync_directory(const std::string& path, const FileSystem& files) {
  if (const int error = files.sync_directory(path); error != 0) {
    fail_io(path, "sync the directory", error);
  }
}

void sync_tree(const std::string& path, const FileSystem& files) {
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::directory_iterator(path)) sync_tree(entry.path(), files);
    sync_directory(path, files);
    return;
  }
  Descriptor file;
  int error = files.open(file, path, OpenMode::kReadNoLink);
  if (error == 0) error = files.sync(file, path);
  if (error != 0) fail_io(path, "sync", error);
}

void write_new_file(const std::string& path, const std::string& text, const FileSystem& files) {
  Descriptor file;
  int error = files.open(file, path, OpenMode::kNew);
  if (error != 0) fail_io(path, "create", error);
  error = files.write_at(file, path, std::as_bytes(std::span(text.data(), text.size())), 0);
  if (error == 0) error = files.sync(file, path);
  const int closed = files.close(file, path);
  if (error == 0) error = closed;
  if (error == 0) return;
  static_cast<void>(FileSystem().remove_file(path));
  fail_io(path, "write", error);
}

}  // namespace lockstep
