// The registration of every configuration key: name, place in Options, description with unit, and
// the values it takes. Defaults are those of trainer/options.h.
#include "app/config.h"
#include "kernels/backend.h"
#include "nn/model_family.h"

namespace lockstep {
namespace {

constexpr double kMostInt32 = 2147483647;

ValueRule positive_to(double high) {
  ValueRule rule = within(0, high);
  rule.low_open = true;
  return rule;
}

}  // namespace

ConfigRegistry::ConfigRegistry(Options& options) : options_(options) {
  register_run();
  register_model();
  register_data_and_train();
  register_optimizer();
  register_precision_and_comm();
  register_rest();
}

void ConfigRegistry::register_run() {
  RunOptions& run = options_.run;
  add("run.dir", &run.dir, "directory of the run; empty: runs/NAME");
  add("run.name", &run.name, "name of the run; empty: the config file's name without .toml");
  add("run.seed", &run.seed, "seed of initial weights and of the data's order", at_least(0));
  add("run.device", &run.device, "where to compute; auto: the GPUs if every rank has one",
      one_of(device_names()));
  add("run.deterministic", &run.deterministic,
      "also fix the algorithms that NCCL chooses by itself");
  add("run.threads", &run.threads,
      "CPU threads per rank; 0: OMP_NUM_THREADS, at most its share of the job's cores",
      at_least(0));
}

void ConfigRegistry::register_model() {
  using Limits = ModelLimits;
  ModelConfig& model = options_.model;
  const ValueRule tri_state = one_of({"", "true", "false"});
  std::vector<std::string> architectures = {""};
  for (const ModelFamily* family : model_families()) architectures.push_back(family->name());
  std::vector<std::string> presets = {""};
  for (std::string& name : model_presets()) presets.push_back(std::move(name));
  add("model.architecture", &model.architecture, "kind of model; \"\": the preset's, else gpt2",
      one_of(std::move(architectures)));
  add("model.preset", &model.preset, "published shape that fills every size left at 0",
      one_of(std::move(presets)));
  add("model.layers", &model.layers, "transformer blocks; 0: the preset's, else 4",
      within(0, Limits::kLayers));
  add("model.heads", &model.heads, "query heads; 0: the preset's, else 4",
      within(0, Limits::kHeads));
  add("model.kv_heads", &model.kv_heads, "key/value heads; 0: the preset's, else as heads",
      within(0, Limits::kHeads));
  add("model.head_dim", &model.head_dim, "width of a head; 0: hidden / heads",
      within(0, Limits::kHeadDim));
  add("model.hidden", &model.hidden, "width of the residual stream; 0: the preset's, else 128",
      within(0, Limits::kHidden));
  add("model.ffn", &model.ffn,
      "width of the MLP; 0: the preset's, else 4 x hidden, gated ones 8/3 x hidden up to a "
      "multiple of 64",
      within(0, Limits::kFfn));
  add("model.vocab", &model.vocab, "vocabulary entries; 0: the preset's, else the tokenizer's",
      within(0, Limits::kVocab));
  add("model.seq_len", &model.seq_len, "context length in tokens; 0: the preset's, else 64",
      within(0, Limits::kSeqLen));
  add("model.norm_eps", &model.norm_eps, "epsilon of the norms; 0: the architecture's",
      as_fp32(at_least(0)));
  add("model.rope_theta", &model.rope_theta, "base of the rotary angles; 0: the architecture's",
      as_fp32(at_least(0)));
  add("model.rope_scaling", &model.rope_scaling,
      "stretches rotary positions: linear:FACTOR or llama3:FACTOR,LOW,HIGH,ORIGINAL");
  add("model.attention_bias", &model.attention_bias,
      "biases in the attention projections; \"\": the architecture's choice", tri_state);
  add("model.mlp_bias", &model.mlp_bias, "biases in the MLP; \"\": the architecture's choice",
      tri_state);
  add("model.tie_embeddings", &model.tie_embeddings,
      "the output head shares the token embedding; \"\": the preset's or architecture's choice",
      tri_state);
  add("model.init_std", &model.init_std, "standard deviation of initial weights",
      as_fp32(above(0)));
  add("model.init_from", &model.init_from,
      "model whose weights and shapes a new run starts from: Hugging Face directory, run, "
      "checkpoint, export or GGUF file");
  register_own_keys();
}

// Keys that one family alone has; 0 or "" is its default.
void ConfigRegistry::register_own_keys() {
  for (const ModelFamily* family : model_families()) {
    for (const ModelKey& key : family->own_keys()) {
      ModelValue& value = options_.model.own.try_emplace(key.name, key.zero).first->second;
      if (find("model." + key.name) != nullptr) continue;  // two families share it
      std::visit([&](auto& v) { add("model." + key.name, &v, key.help); }, value);
    }
  }
}

void ConfigRegistry::register_data_and_train() {
  DataOptions& data = options_.data;
  add("data.train", &data.train,
      "training data: shards, globs, a prepare directory, or \"weight:glob\" entries");
  add("data.val", &data.val, "validation data, in the same forms");
  add("data.tokenizer", &data.tokenizer, "byte, or a directory; empty: the one beside the data");
  add("data.allow_other_tokenizer", &data.allow_other_tokenizer,
      "take shards whose tokenizer is another than the run's or the model's");
  add("data.allow_change", &data.allow_change, "let a resumed run go on with other data");

  TrainOptions& train = options_.train;
  add("train.steps", &train.steps, "length of the run in steps; exclusive with epochs",
      at_least(0));
  add("train.epochs", &train.epochs, "length in passes over the data; exclusive with steps",
      at_least(0));
  add("train.micro_batch_size", &train.micro_batch_size, "sequences per rank and forward pass",
      within(1, 65535));
  add("train.global_batch_size", &train.global_batch_size,
      "sequences per step over all ranks; 0: micro_batch_size x ranks", within(0, kMostInt32));
  add("train.overfit_batch", &train.overfit_batch, "train on the first step's batch only");
  add("train.gemm_search", &train.gemm_search,
      "on a GPU, time the algorithms of every matrix product before the first step");
  add("train.max_skips", &train.max_skips, "end the run after this many non-finite steps in a row",
      within(1, kMostInt32));
  add("train.time_limit_minutes",
      choice_or_number(&train.time_limit_minutes, {TimeLimit::kNever, TimeLimit::kAuto}),
      "save and stop in time, in minutes from process start; auto: Slurm's limit; empty: never",
      word_or_number({"", "auto"}, positive_to(1e9)));
}

void ConfigRegistry::register_optimizer() {
  OptimizerOptions& optimizer = options_.optimizer;
  add("optimizer.name", choice(&optimizer.name, {OptimizerName::kAdamW}), "update rule",
      one_of({"adamw"}));
  add("optimizer.lr", &optimizer.lr, "peak learning rate", as_fp32(at_least(0)));
  using Schedule = StepRules::Schedule;
  add("optimizer.schedule",
      choice(&optimizer.schedule,
             {Schedule::kCosine, Schedule::kLinear, Schedule::kConstant, Schedule::kWsd}),
      "shape of the learning rate after warm-up", one_of({"cosine", "linear", "constant", "wsd"}));
  add("optimizer.warmup_steps", &optimizer.warmup_steps, "updates of linear warm-up", at_least(0));
  add("optimizer.decay_steps", &optimizer.decay_steps, "updates of wsd's final decay", at_least(0));
  add("optimizer.final_lr_fraction", &optimizer.final_lr_fraction,
      "learning rate at the end, as a fraction of the peak", as_fp32(within(0, 1)));
  add("optimizer.beta1", &optimizer.beta1, "decay of the first moment", as_fp32(below(0, 1)));
  add("optimizer.beta2", &optimizer.beta2, "decay of the second moment", as_fp32(below(0, 1)));
  add("optimizer.eps", &optimizer.eps, "added to the root of the second moment", as_fp32(above(0)));
  add("optimizer.weight_decay", &optimizer.weight_decay, "decoupled decay, on matrices only",
      as_fp32(at_least(0)));
  add("optimizer.clip_grad", &optimizer.clip_grad, "largest global gradient norm; 0: no clipping",
      as_fp32(at_least(0)));
}

void ConfigRegistry::register_precision_and_comm() {
  PrecisionOptions& precision = options_.precision;
  add("precision.dtype", choice(&precision.dtype, {DType::kF32, DType::kBF16, DType::kF16}),
      "storage type of weights copies and activations", one_of({"fp32", "bf16", "fp16"}));
  add("precision.tf32", &precision.tf32,
      "let a GPU's matrix products and attention round fp32 operands to TF32");
  add("precision.loss_scale", choice_or_number(&precision.loss_scale, {LossScale::kDynamic}),
      "loss scale of fp16", word_or_number({"dynamic"}, as_fp32(above(0))));
  add("precision.initial_loss_scale", &precision.initial_loss_scale, "where dynamic scaling starts",
      as_fp32(above(0)));
  add("precision.growth_interval", &precision.growth_interval,
      "finite steps in a row after which the scale doubles", within(1, kMostInt32));
  add("precision.min_loss_scale", &precision.min_loss_scale, "floor of the dynamic scale",
      as_fp32(above(0)));

  CommOptions& comm = options_.comm;
  add("comm.backend",
      choice(&comm.backend,
             {CommBackend::kAuto, CommBackend::kSelf, CommBackend::kMpi, CommBackend::kNccl}),
      "transport of gradients; auto: self, nccl on GPUs, else mpi",
      one_of({"auto", "self", "mpi", "nccl"}));
  add("comm.bucket_mib", &comm.bucket_mib, "size of a gradient bucket in MiB",
      positive_to(1048576));
  add("comm.overlap", &comm.overlap, "reduce buckets while backward still runs");
  add("comm.timeout_seconds", &comm.timeout_seconds,
      "seconds without progress after which a collective counts as hung", positive_to(1e9));
  add("comm.start_timeout_seconds", &comm.start_timeout_seconds,
      "seconds after which a rank that has not started counts as missing", positive_to(1e9));
  add("comm.share_gpu", &comm.share_gpu, "let several ranks use one GPU");
}

void ConfigRegistry::register_rest() {
  add("memory.lm_head_chunks", &options_.memory.lm_head_chunks,
      "pieces in which logits are computed; 0: as many as keep one under 1 GiB", at_least(0));

  CheckpointOptions& checkpoint = options_.checkpoint;
  add("checkpoint.interval", &checkpoint.interval,
      "steps between checkpoints; 0: not by steps; the last step and a stop always save",
      at_least(0));
  add("checkpoint.interval_minutes",
      choice_or_number(&checkpoint.interval_minutes, {SaveInterval::kAuto}),
      "minutes between checkpoints; auto: 30 if interval is 0, else 0; 0: not by time",
      word_or_number({"auto"}, within(0, 1e9)));
  add("checkpoint.keep_last", &checkpoint.keep_last, "newest checkpoints to keep; 0: all",
      at_least(0));
  add("checkpoint.keep_every", &checkpoint.keep_every, "also keep steps that this divides; 0: none",
      at_least(0));
  add("checkpoint.keep_best", &checkpoint.keep_best,
      "save whenever validation is better than ever before, and keep that checkpoint");
  add("checkpoint.async", &checkpoint.async,
      "save while training goes on; only false: saving is synchronous");
  add("checkpoint.resume", &checkpoint.resume,
      "auto: the newest valid checkpoint of run.dir; none: start anew; or a path to start from");

  add("eval.interval", &options_.eval.interval, "steps between validations; 0: never", at_least(0));
  add("eval.batches", &options_.eval.batches, "global batches per validation; 0: all",
      within(0, kMostInt32));
  add("log.interval", &options_.log.interval, "steps between step lines; 0: never", at_least(0));
}

}  // namespace lockstep
