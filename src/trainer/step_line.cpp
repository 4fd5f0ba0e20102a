// The step line: the values of a metrics row as a person reads them. Whatever the values are, the
// fields keep their places and stay short; unknown ones are left out or shown as "-".
#include "trainer/run_directory.h"

#include <fmt/format.h>

#include <cmath>

namespace lockstep {
namespace {

// "nan", "inf" or the value; `usual` decimals unless that hides it or makes it long.
std::string readable(double value, int usual, double smallest, double largest) {
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  const double size = std::abs(value);
  if (size != 0.0 && (size < smallest || size >= largest)) return fmt::format("{:.1e}", value);
  return fmt::format("{:.{}f}", value, usual);
}

// Three digits and a unit: 982, 12.3k, 412k, 1.27M.
std::string with_unit(double value) {
  if (!std::isfinite(value) || value < 0) return "-";
  if (value < 999.5) return fmt::format("{:.0f}", value);
  double scaled = value / 1e3;
  const char* unit = "k";
  for (const char* larger : {"M", "G", "T"}) {
    if (scaled < 999.5) break;
    scaled /= 1e3;
    unit = larger;
  }
  const int decimals = scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0;
  return fmt::format("{:.{}f}{}", scaled, decimals, unit);
}

std::string milliseconds(double ms) {
  if (!std::isfinite(ms) || ms < 0) return "-";
  return ms < 9.95 ? fmt::format("{:.1f}", ms) : fmt::format("{:.0f}", ms);
}

std::string gibibytes(double bytes) {
  const double gib = bytes / (1024.0 * 1024.0 * 1024.0);
  return gib < 0.95 ? fmt::format("{:.2f}", gib) : fmt::format("{:.1f}", gib);
}

std::string duration(double seconds) {
  const auto whole = static_cast<std::int64_t>(std::llround(seconds));
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

bool known(const std::optional<double>& value) { return value && std::isfinite(*value); }

}  // namespace

std::string step_line(const MetricsRow& row, std::int64_t total_steps, double eta_seconds) {
  constexpr double kLongestEta = 1e9;  // seconds; beyond it there is no estimate worth showing
  std::string line = fmt::format("step {}", row.step);
  if (total_steps > 0) line += fmt::format("/{}", total_steps);
  line += fmt::format(" | loss {}", readable(row.loss, 4, 1e-4, 1e4));
  line += std::isfinite(row.lr) ? fmt::format(" | lr {:.1e}", row.lr) : " | lr -";
  line += fmt::format(" | grad_norm {}", readable(row.grad_norm, 2, 0.01, 1e4));
  line += fmt::format(" | scale {:.10g}", row.loss_scale);
  line += fmt::format(" | skipped {}", row.skipped);
  line += fmt::format(" | {} ms", milliseconds(row.step_ms));
  line += fmt::format(" | {} tok/s", with_unit(row.tokens_per_second));
  if (known(row.mfu)) line += fmt::format(" | mfu {:.1f}%", *row.mfu * 100.0);
  if (known(row.memory_peak_bytes)) line += " | " + gibibytes(*row.memory_peak_bytes) + " GiB";
  if (eta_seconds >= 0.0 && eta_seconds < kLongestEta) line += " | eta " + duration(eta_seconds);
  return line;
}

}  // namespace lockstep
