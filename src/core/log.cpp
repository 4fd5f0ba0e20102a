// Log lines to the terminal and to the sink.
#include "core/log.h"

#include "core/error.h"

#include <cstdio>
#include <utility>

namespace lockstep {

void Log::keep_in(Sink sink) {
  if (rank_ == 0) sink_ = std::move(sink);
}

void Log::line(const std::string& text) {
  const std::lock_guard one_line(*one_line_);
  fmt::print("{}\n", text);
  std::fflush(stdout);
  to_sink(text);
}

void Log::warning(const std::string& text) {
  if (rank_ == 0) {
    line("warning: " + text);
  } else {
    fmt::print(stderr, "rank {}: warning: {}\n", rank_, text);
  }
}

void Log::to_sink(const std::string& text) {
  if (!sink_) return;
  const int error = sink_(text + "\n");
  if (error == 0) return;
  sink_ = nullptr;
  fmt::print(stderr, "warning: train.log cannot be written ({}); it ends here\n",
             errno_text(error));
}

}  // namespace lockstep
