// Staging: the hidden directory inside --out where prepare writes, so that the final names appear
// only when everything is complete. A killed run leaves the hidden directory; the next run on the
// same --out, which its lock admits alone, clears it.
#pragma once

#include "files/staged.h"

#include <string>
#include <vector>

namespace lockstep {

class Staging {
 public:
  // Creates `out` where needed. Throws UserError(kUsage) if outputs exist and overwrite is false,
  // or if another prepare works there; UserError(kIo) if it cannot be written. What was not
  // published goes with the object.
  Staging(const std::string& out, bool overwrite);
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  std::string path(const std::string& name) const { return directory_.path(name); }
  // Moves these names into `out`, in order, and removes older outputs that are not among them.
  // While it runs a marker stands, so that a reader refuses a half-published directory.
  void publish(const std::vector<std::string>& names);

 private:
  void refuse_existing() const;
  void remove_outputs() const;
  void move_all(const std::vector<std::string>& names) const;
  std::string final_path(const std::string& name) const;

  // Removes the output directory again if this run made it and nothing came into it.
  struct Output {
    explicit Output(const std::string& path);
    ~Output();
    std::string path;
    bool created = false;
  };

  Output out_;
  StagingDirectory directory_;
  bool overwrite_ = false;
};

}  // namespace lockstep
