// Judge: asks models for the same tokens in the same way, one after the other or side by side: as
// trained, as pruned or quantized, as another program's files hold it. Each model is on the device
// only while it is judged.
#pragma once

#include "comm/communicator.h"
#include "core/weight_source.h"
#include "data/loader.h"
#include "device/arena.h"
#include "eval/comparison.h"
#include "nn/model.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

namespace lockstep {

struct JudgedModel {
  const ModelConfig& config;  // resolved
  DType dtype = DType::kF32;  // to compute in
  bool int8_activations = false;
  WeightSource& weights;  // by the names and shapes of `config`
  std::string name;       // in messages: a file, "runs/tiny step 2000"
};

struct JudgeOptions {
  std::int64_t batch = 1;    // sequences at a time
  std::int64_t samples = 0;  // the first ones of the data; 0: all
};

class Judge {
 public:
  // `stop` is asked now and then on every rank; true on any of them ends a judgement.
  Judge(Device& device, World& world, Dataset data, const JudgeOptions& options,
        std::function<bool()> stop);

  std::int64_t seq_len() const { return data_.seq_len(); }

  // Collective and blocking; the ranks share the work, and all get the same answer, nothing when it
  // was stopped. Throws UserError(kData): weights that cannot be read or are not finite, a loss
  // that is not, data without a target.
  std::optional<Evaluation> run(const JudgedModel& model);
  // Both on the same tokens, with both on the device; the same errors. Their vocabularies have the
  // same size.
  std::optional<Comparison> compare(const JudgedModel& model, const JudgedModel& reference);

 private:
  std::unique_ptr<Model> load(const JudgedModel& judged, Arena& arena, Stream& stream);

  Device& device_;
  World& world_;
  Dataset data_;
  JudgeOptions options_;
  std::function<bool()> stop_;
};

}  // namespace lockstep
