// Formatting of invariant failures, errno texts, and the edit distance behind "did you mean".
#include "core/error.h"

#include <algorithm>
#include <numeric>
#include <system_error>
#include <vector>

namespace lockstep {

void check_failed(const char* expression, const char* file, int line, const std::string& detail) {
  std::string message = fmt::format("check failed: {} at {}:{}", expression, file, line);
  if (!detail.empty()) message += " (" + detail + ")";
  throw CheckError(message);
}

std::string errno_text(int error) { return std::generic_category().message(error); }

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substitute = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}

}  // namespace lockstep
