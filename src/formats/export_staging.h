// Staging of an export: a hidden directory beside the final name, from which complete files and
// directories move to their names in one rename; and which names an export may take.
#pragma once

#include "files/staged.h"

#include <string>

namespace lockstep {

enum class ExportKind { kDirectory, kFile };

// Refuses a target that cannot or must not be written: an existing one without `overwrite`, one
// that is no export (another kind of directory or file), no name at all: UserError(kUsage). A link
// that leads nowhere is kIo; others are the caller's to follow, with behind_link().
void check_export_target(const std::string& target, ExportKind kind, bool overwrite);

class ExportStaging {
 public:
  // Makes the parent directories where missing, and puts back what a killed export had moved aside.
  // Throws UserError: kIo, or kUsage while another export writes to the same name.
  explicit ExportStaging(const std::string& target, const FileSystem& files = {});

  // A path inside.
  std::string path(const std::string& name) const { return directory_.path(name); }
  // Everything inside is on disk; then `name` gets its final name, beside the target. What stood
  // there is replaced, and stays complete until then. Durable on return. Throws UserError(kIo).
  void publish(const std::string& name, const std::string& final_path);

 private:
  FileSystem files_;
  StagingDirectory directory_;
};

}  // namespace lockstep
