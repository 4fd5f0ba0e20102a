// Opening checkpoints on all ranks together: the files are dealt out over the ranks to be hashed,
// and all ranks learn the same outcome.
#pragma once

#include "comm/communicator.h"
#include "core/log.h"
#include "core/progress.h"
#include "io/checkpoint.h"

#include <memory>
#include <string>
#include <vector>

namespace lockstep {

// An open checkpoint every file of which was verified by some rank, or why there is none.
struct VerifiedCheckpoint {
  std::unique_ptr<CheckpointReader> reader;
  ExitCode code = ExitCode::kDone;  // the same on every rank
  std::string cause;                // names file and damage
};
// Collective. `progress` is called while this rank hashes.
VerifiedCheckpoint open_verified(const std::string& path, World& world,
                                 const Progress& progress = {});

// The newest checkpoint below `checkpoints` that is whole; null when there is none at all. Damaged
// ones are named in a warning. Throws UserError(kData) when there are checkpoints but none is
// whole. Collective.
std::unique_ptr<CheckpointReader> newest_valid_checkpoint(const std::string& checkpoints,
                                                          World& world, Log& log);

// What rank 0 sees below `checkpoints`, newest first. Throws UserError(kIo) on all ranks.
// Collective.
std::vector<CheckpointEntry> list_together(const std::string& checkpoints, World& world);

}  // namespace lockstep
