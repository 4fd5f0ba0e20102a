// Staging: the hidden directory inside --out where prepare writes, so that the final names appear
// only when everything is complete. A killed run leaves the hidden directory; the next run on the
// same --out, which its lock admits alone, clears it.
#pragma once

#include "data/file.h"

#include <string>
#include <vector>

namespace lockstep {

class Staging {
 public:
  // Creates `out` where needed. Throws UserError(kUsage) if outputs exist and overwrite is false,
  // or if another prepare works there; UserError(kIo) if it cannot be written.
  Staging(std::string out, bool overwrite);
  ~Staging();  // removes what was not published
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  std::string path(const std::string& name) const;
  // Moves these names into `out`, in order, and removes older outputs that are not among them.
  // While it runs a marker stands, so that a reader refuses a half-published directory.
  void publish(const std::vector<std::string>& names);

 private:
  void lock();
  void clear_leftovers();
  void refuse_existing() const;
  void remove_outputs() const;
  void move_all(const std::vector<std::string>& names) const;
  std::string final_path(const std::string& name) const;

  std::string out_;
  std::string directory_;
  bool created_out_ = false;
  bool overwrite_ = false;
  Fd lock_;
};

}  // namespace lockstep
