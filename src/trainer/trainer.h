// Trainer: the loop. It owns the device state of a run and drives data, model, buckets, optimizer,
// evaluation and checkpoints; it knows named parameters and the Model interface, never an
// architecture.
#pragma once

#include "comm/communicator.h"
#include "comm/watchdog.h"
#include "core/log.h"
#include "core/weight_source.h"
#include "data/loader.h"
#include "eval/evaluate.h"
#include "trainer/checkpointer.h"
#include "trainer/grad_buckets.h"
#include "trainer/run_directory.h"
#include "trainer/step_clock.h"
#include "trainer/training_memory.h"

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace lockstep {

// Where a run stands, for whoever asks from another thread.
struct RunPosition {
  std::atomic<std::int64_t> step{0};  // steps enqueued
  std::atomic<const char*> phase{"setup"};
};

// What a run is made of; everything outlives the trainer.
struct TrainerInputs {
  const Options& options;
  std::int64_t steps = 0;         // of the whole run
  std::int64_t accumulation = 1;  // micro-batches per step and rank
  World& world;
  Communicator& communicator;
  Device& device;
  int threads = 1;  // of the CPU, for drawing initial weights
  Log& log;
  RunPosition& position;  // kept up to date
  const Dataset& train_data;
  const Dataset* val_data = nullptr;        // absent: no validation
  RunDirectory* directory = nullptr;        // rank 0 only
  Watchdog* watchdog = nullptr;             // absent when alone
  std::string checkpoints;                  // RUN/checkpoints
  std::vector<NamedText> tokenizer;         // its files, for every checkpoint; may be none
  WeightSource* initial_weights = nullptr;  // absent: drawn by name and seed
  CheckpointMeta identity;                  // seed, run id, config, revision, fingerprint, ...
  ModelFactory make_model = lockstep::make_model;
  std::function<bool()> stop_requested;  // a signal arrived on this rank
  double seconds_since_start = 0.0;      // of the process, when the trainer is made
  double time_limit_seconds = 0.0;       // from process start; 0: none; rank 0 watches it
  double save_interval_seconds = 0.0;    // between checkpoints; 0: not by time; rank 0's clock
};

class Trainer {
 public:
  explicit Trainer(const TrainerInputs& inputs);
  ~Trainer();

  // Before run(): initial weights, or a checkpoint's state.
  void initialize();
  void restore(CheckpointReader& reader);

  // Computes the first micro-batch and throws the result away, for whoever watches the kernels.
  // After initialize(); blocking.
  void rehearse();

  // The resumed step's validation is still to be done.
  void evaluate_first() { evaluate_first_ = true; }

  // Trains to the last step. Returns kDone, or kStopped after a durable checkpoint. Collective.
  // Throws UserError: kIo (three saves failed in a row, or the last one), kInternal (max_skips),
  // kDiverged, kPeer, kData.
  ExitCode run();

  const Arena& arena() const { return arena_; }
  std::int64_t step() const { return step_; }
  Checkpointer& checkpointer() { return checkpointer_; }

 private:
  TrainLoader make_loader() const;
  void train_step(TrainLoader& loader);
  void read_report(double data_wait_ms);
  void drain(double data_wait_ms);
  void measure_memory();
  void on_skip(const StepReport& report);
  void log_row(const StepReport& report, double data_wait_ms);
  void evaluate();
  void save(const char* why, bool required);
  bool due(std::int64_t interval) const { return interval > 0 && step_ % interval == 0; }
  void report_progress() const;
  bool wants_to_stop() const;
  bool wants_to_save() const;
  bool validates_here() const;
  std::int64_t tokens_per_step() const;
  std::int64_t tokens() const { return samples_ * options_.model.seq_len; }

  // Fixed for the run.
  TrainerInputs in_;
  const Options& options_;

  // Device memory and work, in order of construction.
  Arena arena_;
  Stream stream_;
  TrainingMemory memory_;
  Model& model_;
  TrainingState state_;
  GradBuckets buckets_;
  BatchUpload batches_;
  std::optional<Evaluator> evaluator_;
  Checkpointer checkpointer_;

  // Where the run stands.
  std::int64_t step_ = 0;     // steps enqueued
  std::int64_t samples_ = 0;  // consumed by all ranks: the data counter
  std::int64_t saved_step_ = -1;
  std::int64_t failed_saves_ = 0;
  bool stop_ = false;
  bool save_asked_ = false;  // by a vote that has been read
  bool evaluate_first_ = false;
  bool validation_cut_ = false;  // by a stop; it is done after the resume
  std::optional<double> best_val_loss_;
  std::optional<std::int64_t> best_step_;  // where it was measured
  double save_seconds_ = 0.0;              // the longest save so far
  double last_save_ = 0.0;                 // or attempt, in seconds of clock_
  StepClock clock_;
  std::size_t memory_peak_ = 0;

  AbortOnError abort_first_{in_.communicator};  // the last member, so the first to go
};

}  // namespace lockstep
