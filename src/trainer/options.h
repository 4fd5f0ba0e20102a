// The configuration of a run, one struct per section, each key beside its default.
// src/app/config_keys.cpp registers every key once (option, TOML key, dump, resume difference).
#pragma once

#include "core/dtype.h"
#include "kernels/table.h"
#include "nn/model_config.h"

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace lockstep {

struct RunOptions {
  std::string dir;   // default runs/NAME
  std::string name;  // default: the config's stem
  std::uint64_t seed = 1234;
  std::string device = "auto";  // auto | cpu | cuda
  bool deterministic = false;
  int threads = 0;  // 0: this node's cores / local ranks
};

// Keys that take a number or a word.
template <typename Word>
using WordOrNumber = std::variant<Word, double>;
enum class TimeLimit { kNever, kAuto };
enum class LossScale { kDynamic };
enum class SaveInterval { kAuto };

struct DataOptions {
  std::vector<std::string> train;
  std::vector<std::string> val;
  std::string tokenizer;  // "" takes the one beside the data
  bool allow_other_tokenizer = false;
  bool allow_change = false;
};

struct TrainOptions {
  std::int64_t steps = 0;  // exactly one of steps and epochs
  double epochs = 0.0;
  std::int64_t micro_batch_size = 1;
  std::int64_t global_batch_size = 0;  // sequences; 0: micro_batch_size * world size
  bool overfit_batch = false;
  bool gemm_search = true;
  std::int64_t max_skips = 20;
  WordOrNumber<TimeLimit> time_limit_minutes = TimeLimit::kNever;
};

enum class OptimizerName { kAdamW };

struct OptimizerOptions {
  OptimizerName name = OptimizerName::kAdamW;
  double lr = 3e-4;
  StepRules::Schedule schedule = StepRules::Schedule::kCosine;
  std::int64_t warmup_steps = 0;
  std::int64_t decay_steps = 0;
  double final_lr_fraction = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.1;
  double clip_grad = 1.0;  // 0: off
};

struct PrecisionOptions {
  DType dtype = DType::kF32;                                 // fp32, bf16 or fp16
  bool tf32 = false;                                         // fp32 only
  WordOrNumber<LossScale> loss_scale = LossScale::kDynamic;  // fp16 only
  double initial_loss_scale = 65536.0;
  std::int64_t growth_interval = 2000;
  double min_loss_scale = 1.0;
};

enum class CommBackend { kAuto, kSelf, kMpi, kNccl };

struct CommOptions {
  CommBackend backend = CommBackend::kAuto;
  double bucket_mib = 25.0;
  bool overlap = true;
  double timeout_seconds = 600.0;
  double start_timeout_seconds = 120.0;
  bool share_gpu = false;
};

struct MemoryOptions {
  std::int64_t lm_head_chunks = 0;  // 0: as many as keep the logits of a chunk under 1 GiB
};

struct CheckpointOptions {
  std::int64_t interval = 0;  // steps; 0: none
  // 0: none; auto: 30 without interval, else 0
  WordOrNumber<SaveInterval> interval_minutes = SaveInterval::kAuto;
  std::int64_t keep_last = 3;
  std::int64_t keep_every = 0;
  bool keep_best = false;
  bool async = false;           // saving is synchronous; true is refused
  std::string resume = "auto";  // auto | none | PATH
};

struct EvalOptions {
  std::int64_t interval = 0;  // steps; 0: never during training
  std::int64_t batches = 0;   // global batches; 0: all
};

struct LogOptions {
  std::int64_t interval = 10;  // steps
};

struct Options {
  RunOptions run;
  ModelConfig model;
  DataOptions data;
  TrainOptions train;
  OptimizerOptions optimizer;
  PrecisionOptions precision;
  CommOptions comm;
  MemoryOptions memory;
  CheckpointOptions checkpoint;
  EvalOptions eval;
  LogOptions log;
};

}  // namespace lockstep
