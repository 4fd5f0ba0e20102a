// From a configuration to the pieces of a run: names, tokenizer, data, resolved model shapes, batch
// identity, time limit. No device is needed.
#pragma once

#include "core/log.h"
#include "data/loader.h"
#include "data/tokenizer.h"
#include "data/vocabulary_match.h"
#include "trainer/options.h"

#include <memory>
#include <string>

namespace lockstep {

// Fills run.name and run.dir from the config's path.
void name_run(Options& options, const std::string& config_path);

// The tokenizer that belongs to a run's data: data.tokenizer, or the one beside data.train.
struct DataTokenizer {
  std::unique_ptr<Tokenizer> tokenizer;  // null when none is named or found
  std::string where;                     // "data/tokenizer of data.train"
};
DataTokenizer open_data_tokenizer(const DataOptions& data);

// Its number of entries, or 0 when there is none.
std::int64_t tokenizer_vocab(const DataOptions& data);

// How a mismatch of tokenizers is answered in a run.
MismatchError tokenizer_mismatch();

struct RunData {
  DataTokenizer tokenizer;
  std::unique_ptr<Dataset> train;
  std::unique_ptr<Dataset> val;  // absent when there is no data.val
  std::int64_t steps = 0;        // train.steps, or what train.epochs comes to
  std::int64_t accumulation = 1;
};

// Resolves model, batch and steps in `options` and opens the data. Throws UserError, also when the
// data were made with different tokenizers (unless data.allow_other_tokenizer).
RunData set_up_run(Options& options, int world);

// "4 layers, 4 heads (2 key/value), hidden 64, ...": the sizes that the model's family has.
std::string sizes_text(const ModelConfig& model);

// Replaces checkpoint.interval_minutes = auto by what it comes to. Throws UserError(kConfig) for
// what this version cannot do.
void resolve_checkpoint(CheckpointOptions& checkpoint);
// checkpoint.interval_minutes, resolved, in seconds.
double save_interval_seconds(const CheckpointOptions& checkpoint);
// "every 30 minutes, at the end and on a stop".
std::string saving_text(const CheckpointOptions& checkpoint);

// Seconds this process has been running.
double process_age_seconds();
// train.time_limit_minutes as seconds from process start; 0: none. `auto` asks Slurm.
double time_limit_seconds(const TrainOptions& train, Log& log);

}  // namespace lockstep
