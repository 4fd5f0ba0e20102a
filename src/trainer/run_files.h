// What the run directory needs beyond src/files: records are read while the program dies or the
// disk fills, so each file is replaced whole, created whole, or appended to by whole lines.
#pragma once

#include "core/log.h"
#include "files/staged.h"

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

namespace lockstep {

// The content, or nothing if there is no such regular file. Throws UserError(kIo) for other
// failures.
std::optional<std::string> read_text_file(const std::string& path);
// The last whole line (without its newline), or "" if there is none; reads the end of the file
// only.
std::string last_line(const std::string& path);

// Rewrites a file of lines without those that `keep` refuses and without a torn last line; the file
// is left alone when nothing goes. Returns how many went. Throws UserError(kIo).
std::int64_t filter_lines(const std::string& path,
                          const std::function<bool(const std::string&)>& keep);
// Cuts the bytes after the last newline: what a crash in the middle of a write leaves.
void drop_torn_line(const std::string& path);

// A file to keep log lines in, as Log::keep_in() takes it: appended to, made where missing. Throws
// UserError(kIo) if it cannot be opened.
Log::Sink open_log_file(const std::string& path);

// Appends whole lines, from any thread. A failed write is reported once and kept; the next append
// tries it again.
class LineFile {
 public:
  LineFile(std::string path, Log& log) : path_(std::move(path)), log_(log) {}
  ~LineFile();
  LineFile(const LineFile&) = delete;
  LineFile& operator=(const LineFile&) = delete;

  void append(const std::string& line);  // never throws for a full or failing disk
  void sync();                           // all lines are on disk on return; throws UserError(kIo)
  void close();  // the file may be replaced afterwards; the next append opens it again

 private:
  int flush();  // 0 or errno; the mutex is held

  std::string path_;
  Log& log_;
  Descriptor file_;
  std::string pending_;  // not written yet; begins inside a line after a short write
  bool reported_ = false;
  bool folder_synced_ = false;
  std::mutex mutex_;  // of all above
};

}  // namespace lockstep
