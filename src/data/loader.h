// From shards to batches. Sample k of a shard is its tokens [kT, kT+T] (T+1 tokens: inputs and
// targets); windows never cross shards, the tail is unused. The order is a pure function of
// (seed, epoch, global sample index), so no state but one counter exists and any world size resumes
// at exactly the next sample. Weighted mixtures: blocks of 1,000 samples with integer quotas,
// permuted inside.
// Legend: B micro-batch size, T sequence length.
#pragma once

#include "data/shard.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace lockstep {

// All samples of one split. Thread-safe for reading.
class Dataset {
 public:
  // `patterns`: shards, globs, prepare directories or "weight:glob"; `split` is "train" or "val".
  Dataset(const std::vector<std::string>& patterns, const std::string& split, std::int64_t seq_len,
          std::int64_t vocab, std::uint64_t seed);
  ~Dataset();
  Dataset(Dataset&&) noexcept;
  Dataset& operator=(Dataset&&) = delete;

  std::int64_t samples() const;  // per epoch
  std::int64_t tokens() const;   // targets per epoch
  std::int64_t seq_len() const;
  std::string fingerprint() const;  // hex over the shards' fingerprints; paths do not count
  const std::vector<ShardInfo>& shards() const;

  // Training order: sample `index` (0, 1, 2, ... without end; epochs wrap). Writes T inputs and T
  // targets; a target that the mask excludes is -1.
  void train_sample(std::int64_t index, std::int32_t* inputs, std::int32_t* targets) const;
  // File order, for evaluation: index in [0, samples()).
  void file_sample(std::int64_t index, std::int32_t* inputs, std::int32_t* targets) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// One micro-batch in host memory, (B, T) row-major.
struct Batch {
  std::vector<std::int32_t> inputs;
  std::vector<std::int32_t> targets;
};

// Reads ahead on a thread. Of global micro-batch m (samples [mB, (m+1)B)) this rank takes, per
// step, the contiguous block [rank * accumulation, (rank + 1) * accumulation).
class TrainLoader {
 public:
  struct Options {
    std::int64_t micro_batch = 1;
    std::int64_t accumulation = 1;
    int rank = 0;
    int world = 1;
    std::int64_t first_sample = 0;  // the data counter: samples consumed by all ranks so far
    bool overfit = false;           // always the samples of the first step
    int depth = 4;                  // micro-batches read ahead
  };
  TrainLoader(const Dataset& dataset, const Options& options);
  ~TrainLoader();
  TrainLoader(const TrainLoader&) = delete;
  TrainLoader& operator=(const TrainLoader&) = delete;

  // The next micro-batch; valid until the following call. Rethrows what the thread threw
  // (UserError(kData) for a bad token).
  const Batch& next();
  double wait_ms() const;  // total time next() has waited

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The (B, T) batch of `count` samples from `first` in file order, padded to B with fully masked
// rows (targets -1, inputs 0).
Batch eval_batch(const Dataset& dataset, std::int64_t first, std::int64_t count,
                 std::int64_t micro_batch, std::int64_t seq_len);

}  // namespace lockstep
