// One line, rewritten in place.
#include "app/progress_bar.h"

#include <fmt/core.h>

#include <unistd.h>

#include <cstdio>
#include <utility>

namespace lockstep {

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)), terminal_(isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  if (terminal_) std::fprintf(stderr, "\r%79s\r", "");
}

void ProgressBar::show(std::int64_t done, std::int64_t total) {
  const auto now = std::chrono::steady_clock::now();
  if (!terminal_) return;
  if (done != total && now - last_ < std::chrono::milliseconds(100)) return;
  last_ = now;
  constexpr double kMib = 1024.0 * 1024.0;
  const double done_mib = static_cast<double>(done) / kMib;
  if (total <= 0) {
    fmt::print(stderr, "\r{} {:.1f} MiB", label_, done_mib);
    std::fflush(stderr);
    return;
  }
  draw(static_cast<double>(done) / static_cast<double>(total),
       fmt::format("{:.1f} of {:.1f} MiB", done_mib, static_cast<double>(total) / kMib));
}

void ProgressBar::show_count(std::int64_t done, std::int64_t total, const std::string& things) {
  if (!terminal_ || done <= 0) return;
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start_;
  const double left = spent.count() * static_cast<double>(total - done) / static_cast<double>(done);
  draw(static_cast<double>(done) / static_cast<double>(total),
       fmt::format("{} of {} {}, {:.0f} s left ", done, total, things, left));
}

void ProgressBar::draw(double fraction, const std::string& text) {
  constexpr int kWidth = 32;
  const std::string bar(static_cast<std::size_t>(fraction * kWidth), '=');
  fmt::print(stderr, "\r{} [{:<{}}] {:3.0f}%  {}", label_, bar, kWidth, 100.0 * fraction, text);
  std::fflush(stderr);
}

}  // namespace lockstep
