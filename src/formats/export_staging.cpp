// What may be replaced is decided before anything is computed; the rest is StagingDirectory's.
#include "formats/export_staging.h"

#include "core/error.h"
#include "files/durable.h"

#include <sys/stat.h>

#include <array>
#include <filesystem>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

constexpr const char* kOld = "old";  // what a replacement without exchange moves away

bool exists(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}

bool starts_with_gguf(const std::string& path) {
  Descriptor file;
  std::array<std::byte, 4> magic{};
  std::size_t got = 0;
  const FileSystem files;
  return files.open(file, path, OpenMode::kRead) == 0 &&
         files.read_at(magic, got, file, path, 0) == 0 && got == magic.size() &&
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

std::string staging_directory(const std::string& target, const FileSystem& files) {
  const std::string parent = parent_directory(target);
  make_directories(parent, files);
  return parent + "/." + fs::path(target).filename().string() + ".export";
}

}  // namespace

void check_export_target(const std::string& target, ExportKind kind, bool overwrite) {
  const std::string name = fs::path(target).filename();
  if (name.empty() || name == "." || name == "..") {
    fail(ExitCode::kUsage, "--out '{}': give the name of the {} to write", target,
         kind == ExportKind::kFile ? "file" : "directory");
  }
  std::error_code ignored;
  if (fs::is_symlink(target, ignored)) {
    fail(ExitCode::kIo,
         "--out {}: is a link to {}, which is not there: make that, remove the link, or give "
         "another name",
         target, fs::read_symlink(target, ignored).string());
  }
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
    : files_(files), directory_(staging_directory(target, files), "--out " + target, files) {
  const std::string old = path(kOld);
  if (exists(old) && !exists(target)) files_.rename(old, target);
  directory_.clear();
}

void ExportStaging::publish(const std::string& name, const std::string& final_path) {
  sync_tree(path(name), files_);
  put_in_place(path(name), final_path, path(kOld), files_);
}

}  // namespace lockstep
