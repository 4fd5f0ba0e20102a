// statvfs on the nearest directory that exists: what is asked about is often not made yet.
#include "files/free_space.h"

#include "core/error.h"
#include "files/file_system.h"

#include <sys/statvfs.h>

#include <array>
#include <cerrno>

namespace lockstep {

std::int64_t free_bytes(const std::string& directory) {
  struct statvfs status {};
  std::string path = directory;
  while (::statvfs(path.c_str(), &status) != 0) {
    const std::string parent = parent_directory(path);
    if (errno != ENOENT || parent == path) return -1;
    path = parent;
  }
  return static_cast<std::int64_t>(status.f_bavail) * static_cast<std::int64_t>(status.f_frsize);
}

void require_free_space(const std::string& directory, std::int64_t bytes) {
  const std::int64_t free = free_bytes(directory);
  if (free < 0 || free >= bytes) return;
  fail(ExitCode::kIo,
       "{}: {} are needed and {} are free: free some space, or choose another "
       "directory",
       directory, bytes_text(bytes), bytes_text(free));
}

std::string bytes_text(std::int64_t bytes) {
  static constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB"};
  if (bytes < 0) return "an unknown number of bytes";
  if (bytes < 1024) return fmt::format("{} bytes", bytes);
  double value = static_cast<double>(bytes) / 1024.0;
  std::size_t unit = 0;
  for (; value >= 1024.0 && unit + 1 < kUnits.size(); ++unit) value /= 1024.0;
  return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

}  // namespace lockstep
