// Everything that training changes, on one device: parameters, moments, StepState and the verdict,
// and the two optimizer calls that end a step. Knows named parameters only, never a model type.
#pragma once

#include "comm/communicator.h"
#include "nn/model.h"
#include "trainer/options.h"

#include <optional>
#include <string>
#include <vector>

namespace lockstep {

// The verdict of a step as the host reads it, one step late.
struct StepReport {
  std::int64_t step = 0;
  StepState state;
  double loss = 0.0;  // of this step, over all ranks; NaN when nothing counted
  std::int64_t valid_tokens = 0;
  bool stop = false;          // some rank asked to stop
  bool save = false;          // some rank asked for a checkpoint
  std::string bad_parameter;  // first tensor whose gradient was not finite, or ""
};

// What one rank asks for; the ranks decide together, with the sums of the step.
struct StepVotes {
  bool stop = false;
  bool save = false;
};

// The device buffers of the optimizer and the verdict; `arena` may be dry.
struct OptimizerBuffers {
  OptimizerBuffers(const ParameterSet& parameters, Arena& arena);

  ParameterSet::Work work;
  Tensor moment1, moment2;  // (flat) fp32
  Tensor items;             // WorkItems, uint8
  Tensor verdict;           // (segments + 5) fp64: squared sums, totals, votes
  Tensor state;             // StepState, uint8
};

class TrainingState {
 public:
  // `buffers`: those of the model's parameters. `steps` ends the schedule.
  TrainingState(Model& model, OptimizerBuffers buffers, const Options& options, std::int64_t steps,
                int rank, int world, Stream& stream);

  ParameterSet& parameters() { return model_.parameters(); }
  const Tensor& moment(int which) const { return which == 0 ? buffers_.moment1 : buffers_.moment2; }
  const StepState* step_state() const { return state_; }
  // Loss sum, valid targets, correct: where the model adds this step's sums.
  Tensor totals() const;

  // What a checkpoint restores.
  void set(const StepState& state, Stream& stream);
  StepState get(Stream& stream);  // blocking

  // Zeroes the verdict; before the first micro-batch.
  void begin_step(Stream& stream);
  // After the gradients are reduced: norm, one all-reduce of the verdict, decision, update.
  // Everything is enqueued; read() gives the result later.
  void end_step(std::int64_t step, StepVotes votes, Communicator& communicator, Stream& stream);
  // The report of the oldest step not read yet; blocks until the device has reached it.
  StepReport read();
  std::int64_t unread() const { return unread_; }

 private:
  static constexpr int kSlots = 2;  // steps the host may be ahead of what it has read

  Model& model_;
  StepRules rules_;
  OptimizerOptions optimizer_;
  OptimizerBuffers buffers_;
  std::int64_t segments_ = 0;
  std::int64_t norm_begin_ = 0;  // the items whose segments this rank sums
  std::int64_t norm_count_ = 0;
  StepState* state_ = nullptr;  // in buffers_.state
  PinnedBuffer votes_;          // kSlots x (stop, save) as doubles
  PinnedBuffer reports_;        // kSlots x (verdict, StepState)
  std::vector<Event> done_;
  std::vector<std::int64_t> steps_;
  std::int64_t enqueued_ = 0;
  std::int64_t unread_ = 0;
};

// The rules of step_update that follow from the options.
StepRules step_rules(const Options& options, std::int64_t steps);
// The state before the first step.
StepState initial_step_state(const Options& options);

}  // namespace lockstep
