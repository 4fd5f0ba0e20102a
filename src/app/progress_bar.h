// A progress bar on standard error, drawn only when that is a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace lockstep {

class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();  // leaves an empty line
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // Bytes. At most ten times a second; the last call, done = total, always. A `total` that is not
  // known is 0 or less: only the amount is shown.
  void show(std::int64_t done, std::int64_t total);
  // So many of `total` things that take equally long: "layers". Tells how long the rest will take.
  void show_count(std::int64_t done, std::int64_t total, const std::string& things);

 private:
  void draw(double fraction, const std::string& text);

  std::string label_;
  bool terminal_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point last_;
};

}  // namespace lockstep
