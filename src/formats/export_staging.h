// Staging of an export: a hidden directory beside the final name, locked by the process that writes
// there, from which complete files move to their names in one rename. What a killed export left is
// removed by the next one to the same name.
#pragma once

#include "files/files.h"

#include <string>

namespace lockstep {

enum class ExportKind { kDirectory, kFile };

// Refuses a target that cannot or must not be written: an existing one without `overwrite`, one
// that is no export (another kind of directory or file), no name at all. Throws UserError(kUsage).
void check_export_target(const std::string& target, ExportKind kind, bool overwrite);

class ExportStaging {
 public:
  // Makes the parent directories where missing. Throws UserError(kIo).
  explicit ExportStaging(const std::string& target, const FileSystem& files = {});
  ~ExportStaging();  // removes what was not published
  ExportStaging(const ExportStaging&) = delete;
  ExportStaging& operator=(const ExportStaging&) = delete;

  // A path inside.
  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  // Everything inside is on disk; then `name` gets its final name, beside the target. What stood
  // there is replaced, and stays complete until then. Durable on return. Throws UserError(kIo).
  void publish(const std::string& name, const std::string& final_path);

 private:
  void make_directory();
  void remove_stale() const;
  bool lock(const std::string& directory, Descriptor& out) const;

  FileSystem files_;
  std::string target_;
  std::string prefix_;     // of the directory names
  std::string directory_;  // "" until made
  Descriptor lock_;
};

}  // namespace lockstep
