// TrainingMemory: everything that training keeps on a device, allocated by one function. A run and
// the plan (on an arena that only counts) both call it, so they cannot differ.
#pragma once

#include "eval/evaluate.h"
#include "trainer/batch_upload.h"
#include "trainer/training_state.h"

#include <functional>
#include <memory>
#include <optional>

namespace lockstep {

struct TrainingMemory {
  std::unique_ptr<Model> model;
  OptimizerBuffers optimizer;
  DeviceBatch batch;
  std::optional<EvalBuffers> eval;  // when the run validates
};

// How a run's model is made; make_model of nn, unless a test trains something else.
using ModelFactory = std::function<std::unique_ptr<Model>(
    const ModelConfig& config, const ModelPlan& plan, Arena& arena, ScratchBytes scratch_bytes)>;

// Also counts what the kernels take for themselves. `options` must be resolved.
TrainingMemory allocate_training(Arena& arena, const Options& options, bool validates,
                                 const KernelTable& kernels, const ModelFactory& make);

}  // namespace lockstep
