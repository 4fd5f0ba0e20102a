// Between device state and checkpoint files, on all ranks together: every collective decision about
// saving and restoring is here, every byte on disk is io's.
#pragma once

#include "comm/communicator.h"
#include "core/log.h"
#include "io/checkpoint.h"
#include "trainer/training_state.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace lockstep {

// The canonical tensors: /model/<name>, /optimizer/exp_avg/<name>, /optimizer/exp_avg_sq/<name>.
std::vector<StateTensor> state_tensors(const ParameterSet& parameters);

// The newest checkpoint below `checkpoints` that every rank finds whole, open and with its files
// verified; null when there is none. Damaged ones are named in a warning. Throws UserError(kData)
// when there are checkpoints but none is valid. Collective.
std::unique_ptr<CheckpointReader> newest_valid_checkpoint(const std::string& checkpoints,
                                                          World& world, Log& log);

class Snapshots {
 public:
  // `protect`: the checkpoint that the run was resumed from, kept until a newer one exists.
  Snapshots(TrainingState& state, World& world, std::string checkpoints,
            std::string tokenizer_directory, const CheckpointOptions& options, Log& log);

  // Everything of `meta` but the scaler's state and updates must be filled in. Checks that replicas
  // agree (UserError(kDiverged) if not), writes, publishes, prunes. Returns the published path, or
  // "" when the disk failed: then nothing is left behind and the reason is in error().
  // `before` runs on rank 0 first and may fail like the disk. Collective, blocking.
  std::string save(CheckpointMeta meta, const std::function<void()>& before, Stream& stream);
  const std::string& error() const { return error_; }
  const std::string& digest() const { return digest_; }

  // Fills parameters, moments and StepState. Strict: exactly these names and shapes. Collective.
  void restore(CheckpointReader& reader, Stream& stream);
  void protect(const std::string& path) { protect_ = path; }
  // Throws UserError(kIo) when the next checkpoint would not fit on the disk.
  void require_space() const;

 private:
  struct Location {
    const Tensor* flat;
    std::size_t parameter;
  };
  Location locate(std::size_t tensor) const;
  void check_replicas(Stream& stream);
  std::string write_and_publish(const CheckpointMeta& meta, const std::function<void()>& before,
                                Stream& stream);
  void agree(const std::string& local_error);

  TrainingState& state_;
  World& world_;
  std::string checkpoints_;
  std::string tokenizer_directory_;
  CheckpointOptions options_;
  Log& log_;
  std::vector<StateTensor> tensors_;
  std::string protect_;
  std::string error_;
  std::string digest_;
};

// The device buffers of one micro-batch, here so that the memory plan counts them.
struct BatchBuffers {
  Tensor tokens, targets;  // (N) int32
};
BatchBuffers allocate_batch_buffers(Arena& arena, std::int64_t rows);

}  // namespace lockstep
