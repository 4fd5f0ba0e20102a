// Where a training run starts from: its own newest checkpoint, another run's state, or nothing; and
// what may change when it goes on.
#pragma once

#include "app/run_setup.h"
#include "app/session.h"
#include "io/checkpoint.h"
#include "trainer/options.h"

#include <memory>
#include <string>
#include <vector>

namespace lockstep {

struct ResumePoint {
  std::unique_ptr<CheckpointReader> reader;  // absent: start from initial weights
  std::string started_from;                  // another run's checkpoint that this run began with
};

// Collective. `checkpoints` is RUN/checkpoints. Throws UserError(kConfig) when run.dir holds
// another run's checkpoints (proposing a new run.dir), kData when a checkpoint that was asked for
// is bad.
ResumePoint find_resume_point(const Options& options, const std::string& checkpoints, World& world,
                              Log& log);

// Compares the configuration in the checkpoint with `options`. Throws UserError(kConfig) naming old
// and new when something that is fixed on resume differs: [model], the tokenizer (files compared),
// run.seed, optimizer.name, and the data's content unless data.allow_change. Returns the other
// differences, "key: old -> new".
std::vector<std::string> check_resume(const CheckpointReader& reader, const Options& options,
                                      const DataTokenizer& tokenizer,
                                      const std::string& data_fingerprint);

}  // namespace lockstep
