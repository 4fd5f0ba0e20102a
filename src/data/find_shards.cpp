// From what a user writes (files, globs, prepare directories) to shard paths, and the names inside
// a prepare directory.
#include "core/error.h"
#include "core/shell_quote.h"
#include "data/megatron.h"
#include "data/mixture.h"
#include "data/prepared.h"
#include "data/shard.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

bool has_form(const std::string& name, const std::string& prefix, const std::string& suffix) {
  return name.size() > prefix.size() + suffix.size() && name.starts_with(prefix) &&
         name.ends_with(suffix);
}

std::vector<std::string> glob_matches(const std::string& pattern) {
  std::vector<std::string> paths;
  glob_t matches{};
  if (::glob(pattern.c_str(), 0, nullptr, &matches) == 0) {
    paths.assign(matches.gl_pathv, matches.gl_pathv + matches.gl_pathc);
  }
  ::globfree(&matches);
  return paths;
}

// Matches of a glob: files as they are but masks, directories as prepare directories.
std::vector<std::string> expand_glob(const std::string& pattern, const std::string& split) {
  std::vector<std::string> paths;
  for (const std::string& path : glob_matches(pattern)) {
    std::error_code ignored;
    if (fs::is_directory(path, ignored)) {
      const auto inside = prepared_shards(path, split);
      paths.insert(paths.end(), inside.begin(), inside.end());
    } else if (!path.ends_with(".mask")) {
      paths.push_back(path);
    }
  }
  return paths;
}

std::vector<std::string> expand(const std::string& pattern, const std::string& split) {
  std::error_code error;
  if (fs::is_directory(pattern, error)) {
    auto paths = prepared_shards(pattern, split);
    if (paths.empty()) {
      fail(ExitCode::kData,
           "{}: no {}_*.bin in this directory; fill it with `lockstep prepare {} TEXT...`{}, or "
           "name shard files",
           pattern, split, shell_word("--out=" + pattern),
           split == "val" ? " (and a --val-fraction above 0)" : "");
    }
    return paths;
  }
  if (fs::exists(pattern, error)) return {pattern};
  auto paths = expand_glob(pattern, split);
  if (paths.empty()) {
    fail(ExitCode::kData, "{}: no such file, directory or match; check the path in data.{}",
         pattern.empty() ? "(empty path)" : pattern, split);
  }
  return paths;
}

// A Megatron corpus is two files; where both are named, as by a glob, it is taken once.
void drop_megatron_pairs(std::vector<std::string>& paths) {
  std::vector<std::string> data;
  for (const std::string& path : paths) {
    if (!path.ends_with(".bin") && is_megatron_index(path)) {
      data.push_back(megatron_data_path(path));
    }
  }
  std::sort(data.begin(), data.end());
  std::erase_if(paths, [&](const std::string& path) {
    return std::binary_search(data.begin(), data.end(), path);
  });
}

}  // namespace

std::string shard_name(const std::string& split, std::int64_t number) {
  return fmt::format("{}_{:06}.bin", split, number);
}

std::vector<std::string> names_in(const std::string& directory) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error) fail(ExitCode::kData, "{}: cannot read directory: {}", directory, error.message());
  std::sort(names.begin(), names.end());
  return names;
}

bool publication_unfinished(const std::string& directory) {
  std::error_code ignored;
  return fs::exists(fs::path(directory) / kStagingDirectory / kPublishingMarker, ignored);
}

std::vector<std::string> prepared_outputs(const std::string& directory) {
  std::vector<std::string> outputs;
  for (const std::string& name : names_in(directory)) {
    bool ours = name == kTokenizerDirectory;
    for (const char* suffix : {".bin", ".mask"}) {
      ours = ours || has_form(name, "train_", suffix) || has_form(name, "val_", suffix);
    }
    if (ours) outputs.push_back(name);
  }
  return outputs;
}

std::vector<std::string> prepared_shards(const std::string& directory, const std::string& split) {
  if (publication_unfinished(directory)) {
    fail(ExitCode::kData, "{}: `lockstep prepare` was interrupted here; run it again", directory);
  }
  std::vector<std::string> paths;
  for (const std::string& name : names_in(directory)) {
    if (has_form(name, split + "_", ".bin")) paths.push_back((fs::path(directory) / name).string());
  }
  return paths;
}

std::vector<std::string> tokenizer_directories(const std::vector<std::string>& patterns) {
  std::vector<std::string> found;
  const auto look = [&](const fs::path& place) {
    std::error_code ignored;
    const fs::path base = fs::is_directory(place, ignored) ? place : place.parent_path();
    const std::string directory = (base / kTokenizerDirectory).string();
    if (!fs::is_directory(directory, ignored)) return;
    if (std::find(found.begin(), found.end(), directory) == found.end()) found.push_back(directory);
  };
  for (const std::string& pattern : patterns) {
    const std::string path = parse_pattern(pattern).path;
    std::error_code ignored;
    const std::vector<std::string> matches = glob_matches(path);
    if (fs::exists(path, ignored) || matches.empty()) {
      look(path);
    } else {
      for (const std::string& match : matches) look(match);
    }
  }
  return found;
}

std::vector<std::string> find_shards(const std::vector<std::string>& patterns,
                                     const std::string& split) {
  std::vector<std::string> paths;
  for (const std::string& pattern : patterns) {
    for (const std::string& path : expand(pattern, split)) {
      paths.push_back(fs::path(path).lexically_normal().string());
    }
  }
  std::sort(paths.begin(), paths.end());
  paths.erase(std::unique(paths.begin(), paths.end()), paths.end());
  drop_megatron_pairs(paths);
  return paths;
}

}  // namespace lockstep
