// Whole-file creation and replacement, line filtering and appending, over plain POSIX calls: the
// standard streams hide which errno a full disk gave and cannot sync.
#include "trainer/run_files.h"

#include "core/error.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

namespace lockstep {
namespace {

// Writes as much of `text` as it can and returns errno; `text` keeps what was not written.
int write_out(int descriptor, std::string& text) {
  std::size_t done = 0;
  int error = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(descriptor, text.data() + done, text.size() - done);
    if (n > 0) {
      done += static_cast<std::size_t>(n);
    } else if (n == 0 || errno != EINTR) {
      error = n == 0 ? EIO : errno;
      break;
    }
  }
  text.erase(0, done);
  return error;
}

// Pipes and special files cannot be synced; that is no failure.
int sync_out(int descriptor) {
  if (::fsync(descriptor) == 0 || errno == EINVAL || errno == EROFS) return 0;
  return errno;
}

// A new file beside `path`, under a name nobody else has.
std::string write_beside(const std::string& path, std::string text) {
  std::string name = path + ".XXXXXX";
  const Descriptor file(::mkostemp(name.data(), O_CLOEXEC));
  if (!file) fail_io(path, "create", errno);
  int error = ::fchmod(file.get(), 0640) == 0 ? 0 : errno;
  if (error == 0) error = write_out(file.get(), text);
  if (error == 0) error = sync_out(file.get());
  if (error == 0) return name;
  ::unlink(name.c_str());
  fail_io(path, "write", error);
}

void sync_folder_of(const std::string& path) {
  std::string folder = std::filesystem::path(path).parent_path();
  if (folder.empty()) folder = ".";
  const int error = FileSystem().sync_directory(folder);
  if (error != 0) fail_io(folder, "sync the directory", error);
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

bool publish_new_file(const std::string& path, const std::string& text) {
  const std::string temporary = write_beside(path, text);
  int error = ::link(temporary.c_str(), path.c_str()) == 0 ? 0 : errno;
  struct stat status {};
  // Over NFS a link can succeed and its answer be lost; the link count tells.
  if (error != 0 && ::stat(temporary.c_str(), &status) == 0 && status.st_nlink == 2) error = 0;
  ::unlink(temporary.c_str());
  if (error == EEXIST) return false;
  if (error == EPERM || error == EOPNOTSUPP || error == ENOSYS)
    return create_exclusive(path, text);  // no hard links here
  if (error != 0) fail_io(path, "create", error);
  sync_folder_of(path);
  return true;
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
  const auto length = static_cast<off_t>(end == std::string::npos ? 0 : end + 1);
  if (::truncate(path.c_str(), length) != 0) fail_io(path, "truncate", errno);
}

LineFile::~LineFile() { flush(); }

void LineFile::close() {
  const std::lock_guard guard(mutex_);
  file_ = Descriptor();
}

int LineFile::flush() {
  if (pending_.empty()) return 0;
  if (!file_) {
    file_ = Descriptor(::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640));
    if (!file_) return errno;
  }
  return write_out(file_.get(), pending_);
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
  if (error == 0 && file_) error = sync_out(file_.get());
  if (error != 0) fail_io(path_, "write", error);
  if (!folder_synced_) sync_folder_of(path_);  // the file itself may be new
  folder_synced_ = true;
}

}  // namespace lockstep
