// Line filtering and appending, over the calls of FileSystem: the standard streams hide which errno
// a full disk gave and cannot sync.
#include "trainer/run_files.h"

#include "core/error.h"
#include "files/durable.h"
#include "files/staged.h"

#include <cerrno>
#include <filesystem>
#include <fstream>

namespace lockstep {
namespace {

// Pipes and special files cannot be synced; that is no failure.
int sync_out(const Descriptor& file, const std::string& path) {
  const int error = FileSystem().sync(file, path);
  return error == EINVAL || error == EROFS ? 0 : error;
}

}  // namespace

std::optional<std::string> read_text_file(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return std::nullopt;
  std::ifstream file(path, std::ios::binary);
  if (!file && errno == ENOENT) return std::nullopt;
  if (!file) fail_io(path, "open", errno);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (file.bad()) fail_io(path, "read", EIO);
  return text;
}

std::string last_line(const std::string& path) {
  constexpr std::streamoff kTail = 65536;
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return {};
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return {};
  const std::streamoff size = file.tellg();
  file.seekg(size > kTail ? size - kTail : 0);
  const std::string tail((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::size_t end = tail.rfind('\n');
  if (end == std::string::npos) return {};
  const std::size_t before = end == 0 ? std::string::npos : tail.rfind('\n', end - 1);
  const std::size_t begin = before == std::string::npos ? 0 : before + 1;
  return tail.substr(begin, end - begin);
}

std::int64_t filter_lines(const std::string& path,
                          const std::function<bool(const std::string&)>& keep) {
  const std::optional<std::string> text = read_text_file(path);
  if (!text) return 0;
  std::string kept;
  kept.reserve(text->size());
  std::int64_t removed = 0;
  for (std::size_t begin = 0; begin < text->size();) {
    const std::size_t end = text->find('\n', begin);
    const bool whole = end != std::string::npos;
    const std::string line = text->substr(begin, whole ? end - begin : end);
    if (whole && keep(line)) {
      kept += line + '\n';
    } else {
      ++removed;
    }
    begin = whole ? end + 1 : text->size();
  }
  if (removed > 0) atomic_write_file(path, kept);
  return removed;
}

void drop_torn_line(const std::string& path) {
  const std::optional<std::string> text = read_text_file(path);
  if (!text || text->empty() || text->back() == '\n') return;
  const std::size_t end = text->rfind('\n');
  const std::size_t length = end == std::string::npos ? 0 : end + 1;
  const FileSystem files;
  Descriptor file;
  int error = files.open(file, path, OpenMode::kUpdate);
  if (error == 0) error = files.truncate(file, path, static_cast<std::int64_t>(length));
  if (error != 0) fail_io(path, "truncate", error);
}

Log::Sink open_log_file(const std::string& path) {
  const auto file = std::make_shared<Descriptor>();
  const FileSystem files;
  if (const int error = files.open(*file, path, OpenMode::kAppend)) fail_io(path, "open", error);
  return [file, files, path](const std::string& line) {
    std::size_t put = 0;
    return files.append(put, *file, path, std::as_bytes(std::span(line)));
  };
}

LineFile::~LineFile() { flush(); }

void LineFile::close() {
  const std::lock_guard guard(mutex_);
  file_ = Descriptor();
}

int LineFile::flush() {
  if (pending_.empty()) return 0;
  const FileSystem files;
  if (!file_) {
    if (const int error = files.open(file_, path_, OpenMode::kAppend)) return error;
  }
  std::size_t put = 0;
  const int error =
      files.append(put, file_, path_, std::as_bytes(std::span(pending_.data(), pending_.size())));
  pending_.erase(0, put);
  return error;
}

void LineFile::append(const std::string& line) {
  const std::lock_guard guard(mutex_);
  pending_ += line + '\n';
  const int error = flush();
  if (error != 0 && !reported_) {
    reported_ = true;
    log_.warn("{}: cannot write: {}; training goes on, the lines are kept and tried again", path_,
              errno_text(error));
  } else if (error == 0 && reported_) {
    reported_ = false;
    log_.info("{}: written again, nothing is missing", path_);
  }
}

void LineFile::sync() {
  const std::lock_guard guard(mutex_);
  int error = flush();
  if (error == 0 && file_) error = sync_out(file_, path_);
  if (error != 0) fail_io(path_, "write", error);
  if (!folder_synced_) sync_directory(parent_directory(path_));  // the file itself may be new
  folder_synced_ = true;
}

}  // namespace lockstep
