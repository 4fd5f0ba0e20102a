// Log lines to the terminal and to train.log.
#include "core/log.h"

#include "core/error.h"

#include <cerrno>

namespace lockstep {

void Log::open_file(const std::string& path) {
  if (rank_ != 0) return;
  file_.reset(std::fopen(path.c_str(), "a"));
  if (!file_) fail(ExitCode::kIo, "{}: cannot open for writing: {}", path, errno_text(errno));
}

void Log::line(const std::string& text) {
  const std::lock_guard one_line(*one_line_);
  fmt::print("{}\n", text);
  std::fflush(stdout);
  to_file(text);
}

void Log::warning(const std::string& text) {
  if (rank_ == 0) {
    line("warning: " + text);
  } else {
    fmt::print(stderr, "rank {}: warning: {}\n", rank_, text);
  }
}

void Log::to_file(const std::string& text) {
  if (!file_) return;
  const bool written = std::fputs((text + "\n").c_str(), file_.get()) >= 0;
  if (written && std::fflush(file_.get()) == 0) return;
  const int error = errno;
  file_.reset();
  fmt::print(stderr, "warning: train.log cannot be written ({}); it ends here\n",
             errno_text(error));
}

}  // namespace lockstep
