// Checkpointer: saves and restores the training state, on all ranks together. A save has three
// steps: capture (what is saved, taken from training), write (each rank its own rows, files only)
// and publish (rank 0 gives the whole its name). Every collective decision about saving and
// restoring is here, every byte on disk is io's.
#pragma once

#include "comm/communicator.h"
#include "core/log.h"
#include "core/progress.h"
#include "trainer/state_rows.h"

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace lockstep {

// Where a run's checkpoints go.
struct CheckpointPlace {
  std::string checkpoints;           // RUN/checkpoints
  std::vector<NamedText> tokenizer;  // its files, for every checkpoint; may be none
};

class Checkpointer {
 public:
  // `progress` is called while state is copied, written, hashed and read.
  Checkpointer(TrainingState& state, World& world, CheckpointPlace place,
               const CheckpointOptions& options, Progress progress, Log& log);

  // Everything of `meta` but the scaler's state and updates must be filled in. Captures, writes,
  // publishes, prunes. Returns the published path, or "" when the disk failed: then nothing is left
  // behind and the reason is in error(). `before` runs on rank 0 ahead of the first file and may
  // fail like the disk. Throws UserError on all ranks when the weights are not worth saving:
  // kDiverged (replicas differ), kInternal (NaN or infinity). Collective, blocking.
  std::string save(CheckpointMeta meta, const std::function<void()>& before, Stream& stream);
  const std::string& error() const { return error_; }
  const std::string& digest() const { return digest_; }

  // Fills parameters, moments and StepState. Strict: exactly these names and shapes. Collective.
  void restore(CheckpointReader& reader, Stream& stream);
  // The run goes on from `path`, which has been verified; it is kept until a newer one exists.
  void resumed_from(const std::string& path, std::int64_t step);
  // Throws UserError(kIo) when the next checkpoint would not fit on the disk.
  void require_space() const;

 private:
  // What one rank saves. Scalars are copied; `rows` reads the device piece by piece as the writer
  // asks, so training stands still until the write ends and no second copy of the state is needed.
  struct Capture {
    CheckpointMeta meta;
    std::vector<RowRange> share;  // the rows that this rank owns
    RowSource rows;
  };
  Capture capture(CheckpointMeta meta, Stream& stream);
  std::string open_directory(std::int64_t step, const std::function<void()>& before);
  std::vector<ShardRecord> write(const Capture& capture, const std::string& directory);
  std::string publish(const Capture& capture, const std::vector<ShardRecord>& shards,
                      const std::string& directory);
  void tidy_up(const CheckpointMeta& meta, const std::string& published);
  bool is_whole(const std::string& path);
  void require_finite_weights(Stream& stream);
  void agree(const std::string& local_error);

  TrainingState& state_;
  StateRows rows_;
  World& world_;
  CheckpointPlace place_;
  CheckpointOptions options_;
  Progress progress_;
  Log& log_;
  std::optional<std::int64_t> resumed_step_;  // until there is a newer checkpoint
  std::map<std::string, bool> whole_;         // what has been found out about checkpoints, by path
  std::string error_;
  std::string digest_;
};

}  // namespace lockstep
