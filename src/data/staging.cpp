// Lock, clear, refuse, publish: the order in which a prepare run takes over its output directory.
#include "data/staging.h"

#include "core/error.h"
#include "data/prepared.h"
#include "files/durable.h"

#include <algorithm>
#include <filesystem>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

void remove_path(const std::string& path) {
  if (const int error = FileSystem().remove_tree(path)) fail_io(path, "remove", error);
}

}  // namespace

Staging::Output::Output(const std::string& out) : path(out) {
  std::error_code ignored;
  if (fs::exists(path, ignored) && !fs::is_directory(path, ignored)) {
    fail(ExitCode::kUsage, "--out {}: exists and is not a directory; choose another", path);
  }
  created = !fs::exists(path, ignored);
  make_directories(path);
}

Staging::Output::~Output() {
  std::error_code ignored;
  if (created) fs::remove(path, ignored);  // only if it is still empty
}

Staging::Staging(const std::string& out, bool overwrite)
    : out_(out),
      directory_((fs::path(out) / kStagingDirectory).string(), "--out " + out),
      overwrite_(overwrite) {
  if (publication_unfinished(out)) remove_outputs();
  directory_.clear();
  refuse_existing();
}

std::string Staging::final_path(const std::string& name) const {
  return (fs::path(out_.path) / name).string();
}

void Staging::remove_outputs() const {
  for (const std::string& name : prepared_outputs(out_.path)) remove_path(final_path(name));
}

void Staging::refuse_existing() const {
  const auto existing = prepared_outputs(out_.path);
  if (existing.empty() || overwrite_) return;
  fail(ExitCode::kUsage, "--out {}: already holds {}{}; give --overwrite or choose another",
       out_.path, existing.front(),
       existing.size() > 1 ? fmt::format(" and {} more", existing.size() - 1) : "");
}

void Staging::publish(const std::vector<std::string>& names) {
  sync_directory(directory_.directory());
  write_new_file(path(kPublishingMarker), "");
  sync_directory(directory_.directory());
  try {
    move_all(names);
  } catch (...) {  // a mixture of old and new is of no use to anybody
    remove_outputs();
    throw;
  }
}

void Staging::move_all(const std::vector<std::string>& names) const {
  for (const std::string& name : prepared_outputs(out_.path)) {
    const bool replaced = std::find(names.begin(), names.end(), name) != names.end();
    if (!replaced || name == kTokenizerDirectory) remove_path(final_path(name));
  }
  for (const std::string& name : names) {
    const int error = FileSystem().rename(path(name), final_path(name));
    if (error != 0) fail_io(final_path(name), "publish", error);
  }
  sync_directory(out_.path);
}

}  // namespace lockstep
