// The matrix products' algorithms that a user's runs found fastest: one file for each library
// version and card, in $XDG_CACHE_HOME/lockstep or ~/.cache/lockstep. What is in it is not searched
// again, so that a run that begins anew computes the same bits.
#pragma once

#include "app/launcher.h"
#include "files/lock.h"

#include <string>

namespace lockstep {

class GemmPlanFile {
 public:
  // empty_plan: KernelTable::gemm_plan() before the first product. Waits for another process that
  // searches for the same card, so that both take the same choices.
  GemmPlanFile(const std::string& empty_plan, const Environment& environment);

  const std::string& path() const { return path_; }
  // The plan that is kept; the empty one where there is none that can be read.
  std::string read() const;
  // Keeps the choices of `plan` beside those that are there. Returns "" or why it could not.
  std::string add(const std::string& plan) const;

 private:
  std::string empty_;
  std::string path_;  // "" without a home directory
  FileLock lock_;
};

// Both plans' choices, b's where both have one; both begin with `empty`.
std::string joined_plans(const std::string& empty, const std::string& a, const std::string& b);

}  // namespace lockstep
