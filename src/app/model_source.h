// MODEL on the command line: a run directory (its newest valid checkpoint) or a checkpoint
// directory, opened for inference.
#pragma once

#include "app/session.h"
#include "io/checkpoint.h"
#include "nn/model.h"
#include "trainer/options.h"

#include <memory>
#include <string>

namespace lockstep {

struct ModelSource {
  std::unique_ptr<CheckpointReader> reader;
  Options options;          // of the run that made it
  std::string tokenizer;    // directory, or "" when the checkpoint carries none
  std::string description;  // "runs/tiny step 2000"
};

// The checkpoint at `path`, or the newest whole one of the run there, its files verified on every
// rank. Collective. Throws UserError(kData) when there is none; `what` goes before the path in the
// message ("checkpoint.resume: ", or "").
std::unique_ptr<CheckpointReader> open_checkpoint(const std::string& path, const std::string& what,
                                                  World& world, Log& log);

// Collective: every rank opens the same files. Throws UserError(kData) when `path` is none of the
// kinds, is missing, or holds no whole checkpoint.
ModelSource open_model_source(const std::string& path, World& world, Log& log);

// Reads the weights into an inference model, rounded to its compute dtype. Blocking.
void load_weights(CheckpointReader& reader, ParameterSet& parameters, Stream& stream);

}  // namespace lockstep
