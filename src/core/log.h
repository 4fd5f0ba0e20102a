// Log: where human-readable lines go. Rank 0 prints to stdout and to a sink (the run's train.log,
// which somebody above opened: core opens no files); every other rank prints only warnings and
// errors, to stderr, with its rank in front. Any thread may log.
#pragma once

#include <fmt/core.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>

namespace lockstep {

class Log {
 public:
  explicit Log(int rank = 0) : rank_(rank) {}

  // Rank 0 only; silent elsewhere.
  template <typename... Args>
  void info(fmt::format_string<Args...> format, Args&&... args) {
    if (rank_ == 0) line(fmt::format(format, std::forward<Args>(args)...));
  }
  // On the rank concerned, to stderr (rank 0: stdout as well as train.log).
  template <typename... Args>
  void warn(fmt::format_string<Args...> format, Args&&... args) {
    warning(fmt::format(format, std::forward<Args>(args)...));
  }

  // For what all ranks find out together: said once, by rank 0.
  template <typename... Args>
  void warn_once(fmt::format_string<Args...> format, Args&&... args) {
    if (rank_ == 0) warning(fmt::format(format, std::forward<Args>(args)...));
  }

  // Takes a line with its newline; 0 or an errno.
  using Sink = std::function<int(const std::string& line)>;
  // Rank 0 hands every later line to `sink` too, until it fails: that is reported once and never
  // stops a run.
  void keep_in(Sink sink);
  int rank() const { return rank_; }

 private:
  void line(const std::string& text);
  void warning(const std::string& text);
  void to_sink(const std::string& text);

  int rank_;
  std::unique_ptr<std::mutex> one_line_ = std::make_unique<std::mutex>();
  Sink sink_;
};

}  // namespace lockstep
