// Lock, clear, refuse, publish: the order in which a prepare run takes over its output directory.
#include "data/staging.h"

#include "core/error.h"
#include "data/prepared.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

namespace lockstep {
namespace {

namespace fs = std::filesystem;
constexpr const char* kLockFile = "lock";

bool make_directories(const std::string& path) {
  std::error_code error;
  const bool created = fs::create_directories(path, error);
  if (error) fail_write(path, error.value());
  return created;
}

void remove_path(const std::string& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) fail(ExitCode::kIo, "{}: cannot remove: {}", path, error.message());
}

}  // namespace

Staging::Staging(std::string out, bool overwrite)
    : out_(std::move(out)),
      directory_((fs::path(out_) / kStagingDirectory).string()),
      overwrite_(overwrite) {
  std::error_code ignored;
  if (fs::exists(out_, ignored) && !fs::is_directory(out_, ignored)) {
    fail(ExitCode::kUsage, "--out {}: exists and is not a directory; choose another", out_);
  }
  created_out_ = make_directories(out_);
  make_directories(directory_);
  lock();
  clear_leftovers();
  try {
    refuse_existing();
  } catch (...) {
    fs::remove_all(directory_, ignored);
    throw;
  }
}

Staging::~Staging() {
  std::error_code ignored;
  fs::remove_all(directory_, ignored);
  if (created_out_) fs::remove(out_, ignored);  // only if it is still empty
}

std::string Staging::path(const std::string& name) const {
  return (fs::path(directory_) / name).string();
}

std::string Staging::final_path(const std::string& name) const {
  return (fs::path(out_) / name).string();
}

void Staging::lock() {
  const std::string file = path(kLockFile);
  lock_ = Fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666));
  if (lock_.get() < 0) fail_write(file, errno);
  // A file system without locks answers something else: then nobody is kept out.
  if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    fail(ExitCode::kUsage,
         "--out {}: another `lockstep prepare` is writing there; wait for it or choose another",
         out_);
  }
}

void Staging::clear_leftovers() {
  if (publication_unfinished(out_)) remove_outputs();
  for (const std::string& name : names_in(directory_)) {
    if (name != kLockFile) remove_path(path(name));
  }
}

void Staging::remove_outputs() const {
  for (const std::string& name : prepared_outputs(out_)) remove_path(final_path(name));
}

void Staging::refuse_existing() const {
  const auto existing = prepared_outputs(out_);
  if (existing.empty() || overwrite_) return;
  fail(ExitCode::kUsage, "--out {}: already holds {}{}; give --overwrite or choose another", out_,
       existing.front(),
       existing.size() > 1 ? fmt::format(" and {} more", existing.size() - 1) : "");
}

void Staging::publish(const std::vector<std::string>& names) {
  sync_directory(directory_);
  create_file(path(kPublishingMarker));
  sync_directory(directory_);
  try {
    move_all(names);
  } catch (...) {  // a mixture of old and new is of no use to anybody
    remove_outputs();
    throw;
  }
}

void Staging::move_all(const std::vector<std::string>& names) const {
  for (const std::string& name : prepared_outputs(out_)) {
    const bool replaced = std::find(names.begin(), names.end(), name) != names.end();
    if (!replaced || name == kTokenizerDirectory) remove_path(final_path(name));
  }
  for (const std::string& name : names) rename_path(path(name), final_path(name));
  sync_directory(out_);
}

}  // namespace lockstep
