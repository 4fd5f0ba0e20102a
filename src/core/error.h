// The two kinds of error of the project, and the exit codes every command returns.
// UserError: something the user can fix; one line that names the file, field or flag and the next
// action. CheckError: a broken invariant of ours; carries the expression, the values and file:line.
// All are caught once, in main(), which prints the rank and ends the job.
#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace lockstep {

// Process exit codes (sysexits where one fits). Scripts outside the project rely on the numbers.
enum class ExitCode : int {
  kDone = 0,
  kUsage = 64,        // unknown flag, bad argument
  kData = 65,         // missing, empty or bad data, checkpoint or weights
  kInternal = 70,     // broken invariant, persistent NaN
  kIo = 74,           // disk or other I/O failure
  kStopped = 75,      // stopped early with a durable checkpoint: run the same command again
  kPeer = 76,         // a peer, the network or a hang
  kDiverged = 77,     // replicas differ
  kConfig = 78,       // unknown key, bad value, absent device, world size, out of device memory
  kInterrupted = 130  // second interrupt
};

// A failure that the user can act on. The message is one line.
class UserError : public std::runtime_error {
 public:
  UserError(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const noexcept { return code_; }

 private:
  ExitCode code_;
};

// Throws UserError with an fmt-formatted message.
template <typename... Args>
[[noreturn]] void fail(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw UserError(code, fmt::format(format, std::forward<Args>(args)...));
}

// The same failure thrown on every rank: rank 0 alone prints it, and the ranks leave in order
// instead of aborting each other.
class CollectiveError : public UserError {
 public:
  using UserError::UserError;
};

// Throws CollectiveError; only where every rank comes to the same conclusion.
template <typename... Args>
[[noreturn]] void fail_together(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw CollectiveError(code, fmt::format(format, std::forward<Args>(args)...));
}

// A broken invariant of the program itself; leads to exit code 70.
class CheckError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

[[noreturn]] void check_failed(const char* expression, const char* file, int line,
                               const std::string& detail);

// The message for an errno value ("No space left on device").
std::string errno_text(int error);

// The candidate closest to `word` by edit distance, or "" if none is near enough to suggest.
template <typename Range>
std::string nearest(std::string_view word, const Range& candidates);

// Levenshtein distance; used by nearest().
std::size_t edit_distance(std::string_view a, std::string_view b);

template <typename Range>
std::string nearest(std::string_view word, const Range& candidates) {
  std::string best;
  std::size_t best_distance = word.size() / 2 + 1;
  for (const auto& candidate : candidates) {
    const std::size_t distance = edit_distance(word, candidate);
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

}  // namespace lockstep

// CHECK(condition) or CHECK(condition, "rows {} cols {}", r, c): throws CheckError when false.
#define CHECK(condition, ...)                                                  \
  do {                                                                         \
    if (!(condition)) [[unlikely]]                                             \
      ::lockstep::check_failed(#condition, __FILE__, __LINE__,                 \
                               ::lockstep::detail::check_detail(__VA_ARGS__)); \
  } while (false)

namespace lockstep::detail {
inline std::string check_detail() { return {}; }
template <typename... Args>
std::string check_detail(fmt::format_string<Args...> format, Args&&... args) {
  return fmt::format(format, std::forward<Args>(args)...);
}
}  // namespace lockstep::detail
