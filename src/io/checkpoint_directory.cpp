// The directory of checkpoints: which there are, which to keep, and what earlier saves left behind.
// Only names of our own patterns are ever touched.
#include "files/durable.h"
#include "io/manifest.h"
#include "io/save.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <random>
#include <set>
#include <string_view>

namespace lockstep {
namespace {

constexpr std::string_view kStepPrefix = "step_";
constexpr std::size_t kNonceDigits = 16;
constexpr std::array<std::string_view, 3> kLeftoverPrefixes = {".tmp-", ".trash-", ".old-"};

bool is_real_directory(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

// Real directories only, sorted; none if `path` does not exist.
std::vector<std::string> directories_in(const std::string& path) {
  std::vector<std::string> names;
  std::error_code status;
  std::filesystem::directory_iterator entries(path, status);
  for (; !status && entries != std::filesystem::directory_iterator(); entries.increment(status)) {
    const std::string name = entries->path().filename();
    if (is_real_directory(path + "/" + name)) names.push_back(name);
  }
  const int error = status.value();
  if (error != 0 && error != ENOENT) fail_io(path, "list the directory", error);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

std::string step_name(std::int64_t step) { return fmt::format("{}{:08}", kStepPrefix, step); }

std::optional<std::int64_t> step_of_name(const std::string& name) {
  if (!name.starts_with(kStepPrefix)) return std::nullopt;
  std::int64_t step = -1;
  const char* begin = name.data() + kStepPrefix.size();
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(begin, end, step);
  // Compared as text too, so that each step has one name.
  if (error != std::errc() || stop != end || step < 0 || step_name(step) != name) {
    return std::nullopt;
  }
  return step;
}

std::string leftover_name(Leftover kind, std::int64_t step) {
  std::random_device random;
  return fmt::format("{}{}-{:08x}{:08x}", kLeftoverPrefixes[static_cast<std::size_t>(kind)],
                     step_name(step), random(), random());
}

std::optional<LeftoverName> parse_leftover(const std::string& name) {
  for (std::size_t kind = 0; kind < kLeftoverPrefixes.size(); ++kind) {
    const std::size_t prefix = kLeftoverPrefixes[kind].size();
    if (!name.starts_with(kLeftoverPrefixes[kind])) continue;
    if (name.size() < prefix + kNonceDigits + 1) return std::nullopt;
    const std::size_t dash = name.size() - kNonceDigits - 1;
    const auto step = step_of_name(name.substr(prefix, dash - prefix));
    const bool nonce =
        name[dash] == '-' && name.find_first_not_of("0123456789abcdef", dash + 1) == name.npos;
    if (!step || !nonce) return std::nullopt;
    return LeftoverName{static_cast<Leftover>(kind), *step};
  }
  return std::nullopt;
}

void discard(const FileSystem& files, const std::string& checkpoints,
             const std::vector<std::string>& names) {
  std::vector<std::string> trash;
  for (const std::string& name : names) {
    const auto leftover = parse_leftover(name);
    const auto step = leftover ? std::optional(leftover->step) : step_of_name(name);
    CHECK(step.has_value(), "{}", name);
    const std::string path = checkpoints + "/" + leftover_name(Leftover::kTrash, *step);
    const int error = files.rename(checkpoints + "/" + name, path);
    if (error != 0) fail_io(checkpoints + "/" + name, "move aside for deletion", error);
    trash.push_back(path);
  }
  if (trash.empty()) return;
  sync_directory(checkpoints, files);
  for (const std::string& path : trash) {
    if (const int error = files.remove_tree(path); error != 0) fail_io(path, "delete", error);
  }
}

std::vector<CheckpointEntry> list_checkpoints(const std::string& checkpoints) {
  std::vector<CheckpointEntry> entries;
  for (const std::string& name : directories_in(checkpoints)) {
    if (const auto step = step_of_name(name)) entries.push_back({checkpoints + "/" + name, *step});
  }
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.step > b.step; });
  return entries;
}

void remove_temporaries(const FileSystem& files, const std::string& checkpoints) {
  std::vector<std::string> names;
  for (const std::string& name : directories_in(checkpoints)) {
    const auto leftover = parse_leftover(name);
    if (!leftover) continue;
    const std::string step = checkpoints + "/" + step_name(leftover->step);
    struct stat status {};
    if (leftover->kind == Leftover::kOld && ::lstat(step.c_str(), &status) != 0) {
      // The crash came between setting the old one aside and naming the new one.
      const int error = files.rename(checkpoints + "/" + name, step);
      if (error != 0) fail_io(step, "restore the checkpoint", error);
      continue;
    }
    names.push_back(name);
  }
  discard(files, checkpoints, names);
}

std::vector<CheckpointEntry> beyond_retention(
    const std::vector<CheckpointEntry>& newest_first, const Retention& retention,
    const std::function<bool(const std::string& path)>& is_whole) {
  CHECK(retention.keep_last >= 0 && retention.keep_every >= 0, "keep_last {} keep_every {}",
        retention.keep_last, retention.keep_every);
  std::vector<CheckpointEntry> beyond;
  const auto last = static_cast<std::size_t>(retention.keep_last);
  if (last == 0 || newest_first.size() <= last) return beyond;
  std::size_t whole = 0;
  for (const CheckpointEntry& entry : newest_first) {
    if (whole < last) {
      whole += is_whole(entry.path) ? 1 : 0;
      continue;
    }
    const auto& steps = retention.steps;
    const bool kept = (retention.keep_every > 0 && entry.step % retention.keep_every == 0) ||
                      std::find(steps.begin(), steps.end(), entry.step) != steps.end();
    if (!kept) beyond.push_back(entry);
  }
  return beyond;
}

void delete_checkpoints(const FileSystem& files, const std::string& checkpoints,
                        const std::vector<CheckpointEntry>& entries) {
  std::vector<std::string> names;
  for (const CheckpointEntry& entry : entries) names.push_back(step_name(entry.step));
  discard(files, checkpoints, names);
}

void remove_temporaries(const std::string& checkpoints) {
  remove_temporaries(FileSystem(), checkpoints);
}

void delete_checkpoints(const std::string& checkpoints,
                        const std::vector<CheckpointEntry>& entries) {
  delete_checkpoints(FileSystem(), checkpoints, entries);
}

bool is_checkpoint(const std::string& path) {
  struct stat status {};
  const std::string manifest = path + "/" + std::string(kManifestName);
  return ::stat(manifest.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

}  // namespace lockstep
