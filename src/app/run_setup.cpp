// Names, data and limits of a run.
#include "app/run_setup.h"

#include "app/any_tokenizer.h"
#include "app/slurm.h"
#include "core/error.h"
#include "data/mixture.h"
#include "data/prepared.h"
#include "data/shard.h"
#include "trainer/accumulation.h"

#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

void set_up_batch(Options& options, int world, RunData& run) {
  TrainOptions& train = options.train;
  if (train.global_batch_size == 0) train.global_batch_size = train.micro_batch_size * world;
  run.accumulation = derive_accumulation(train.global_batch_size, train.micro_batch_size, world);
}

void set_up_steps(const Options& options, RunData& run) {
  const TrainOptions& train = options.train;
  if ((train.steps > 0) == (train.epochs > 0.0)) {
    fail(ExitCode::kConfig, "give exactly one of train.steps and train.epochs");
  }
  const double samples = train.epochs * static_cast<double>(run.train->samples());
  const double sequences = static_cast<double>(train.global_batch_size);
  const double steps =
      train.steps > 0 ? static_cast<double>(train.steps) : std::ceil(samples / sequences);
  constexpr double kMostTokens = 9.0e18;  // counted in 63 bits
  if (steps * sequences * static_cast<double>(options.model.seq_len) > kMostTokens) {
    fail(ExitCode::kConfig,
         "the run would see more than {:.0e} tokens; lower {} or train.global_batch_size",
         kMostTokens, train.steps > 0 ? "train.steps" : "train.epochs");
  }
  run.steps = train.steps > 0 ? train.steps : static_cast<std::int64_t>(steps);
}

void check_data_tokenizers(const DataOptions& data, const DataTokenizer& found) {
  if (data.allow_other_tokenizer || found.tokenizer == nullptr) return;
  const TokenizerOf wanted{*found.tokenizer, found.where};
  require_vocabulary_of_shards(wanted, data.train, "data.train", tokenizer_mismatch());
  require_vocabulary_of_shards(wanted, data.val, "data.val", tokenizer_mismatch());
}

}  // namespace

void name_run(Options& options, const std::string& config_path) {
  if (options.run.name.empty()) options.run.name = fs::path(config_path).stem().string();
  if (options.run.dir.empty()) options.run.dir = "runs/" + options.run.name;
}

DataTokenizer open_data_tokenizer(const DataOptions& data) {
  if (!data.tokenizer.empty()) {
    return {open_any_tokenizer(data.tokenizer), data.tokenizer + " of data.tokenizer"};
  }
  const std::vector<std::string> beside = tokenizer_directories(data.train);
  if (beside.empty()) return {};
  return {open_tokenizer(beside.front()), beside.front() + " of data.train"};
}

std::int64_t tokenizer_vocab(const DataOptions& data) {
  const DataTokenizer found = open_data_tokenizer(data);
  return found.tokenizer == nullptr ? 0 : found.tokenizer->vocab_size();
}

MismatchError tokenizer_mismatch() {
  return {ExitCode::kConfig,
          "prepare all data with the tokenizer of the model, or set "
          "data.allow_other_tokenizer = true"};
}

RunData set_up_run(Options& options, int world) {
  if (options.data.train.empty()) {
    fail(ExitCode::kConfig,
         "data.train: name the shards to train on, for example what `lockstep prepare` wrote");
  }
  // Missing shards are said to be missing before a tokenizer is looked for beside them.
  for (const std::string& pattern : options.data.train) {
    find_shards({parse_pattern(pattern).path}, "train");
  }
  resolve_checkpoint(options.checkpoint);
  if (options.precision.tf32 && options.precision.dtype != DType::kF32) {
    fail(ExitCode::kConfig,
         "precision.tf32 = true is for precision.dtype = \"fp32\", which is {} here: leave one of "
         "the two out",
         name_of(options.precision.dtype));
  }
  RunData run;
  run.tokenizer = open_data_tokenizer(options.data);
  check_data_tokenizers(options.data, run.tokenizer);
  const Tokenizer* tokenizer = run.tokenizer.tokenizer.get();
  resolve(options.model, tokenizer == nullptr ? 0 : tokenizer->vocab_size());
  set_up_batch(options, world, run);
  const ModelConfig& model = options.model;
  run.train = std::make_unique<Dataset>(options.data.train, "train", model.seq_len, model.vocab,
                                        options.run.seed);
  if (!options.data.val.empty()) {
    run.val = std::make_unique<Dataset>(options.data.val, "val", model.seq_len, model.vocab,
                                        options.run.seed);
  }
  set_up_steps(options, run);
  return run;
}

std::string sizes_text(const ModelConfig& model) {
  std::string text;
  const auto add = [&](std::int64_t size, const std::string& said) {
    if (size > 0) text += (text.empty() ? "" : ", ") + said;
  };
  add(model.layers, fmt::format("{} layers", model.layers));
  add(model.heads, fmt::format("{} heads ({} key/value)", model.heads, model.kv_heads));
  add(model.hidden, fmt::format("hidden {}", model.hidden));
  add(model.ffn, fmt::format("ffn {}", model.ffn));
  add(model.vocab, fmt::format("vocabulary {}", model.vocab));
  add(model.seq_len, fmt::format("context {}", model.seq_len));
  return text;
}

void resolve_checkpoint(CheckpointOptions& checkpoint) {
  if (checkpoint.async) {
    fail(ExitCode::kConfig,
         "checkpoint.async = true: saving is synchronous in this version; leave it out or set it "
         "to false");
  }
  if (std::holds_alternative<double>(checkpoint.interval_minutes)) return;
  checkpoint.interval_minutes = checkpoint.interval == 0 ? 30.0 : 0.0;
}

double save_interval_seconds(const CheckpointOptions& checkpoint) {
  return std::get<double>(checkpoint.interval_minutes) * 60.0;
}

std::string saving_text(const CheckpointOptions& checkpoint) {
  std::string when;
  if (checkpoint.interval > 0) when += fmt::format("every {} steps, ", checkpoint.interval);
  if (save_interval_seconds(checkpoint) > 0.0) {
    when += fmt::format("every {} minutes, ", std::get<double>(checkpoint.interval_minutes));
  }
  if (checkpoint.keep_best) when += "when validation is the best so far, ";
  return when + "at the end and on a stop";
}

double process_age_seconds() {
  std::ifstream stat("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(stat)), {});
  double uptime = 0.0;
  std::ifstream("/proc/uptime") >> uptime;
  // Field 22, counted after the command name, which may hold spaces: clock ticks since boot.
  std::stringstream fields(text.substr(text.rfind(')') + 2));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  const double started = std::atof(field.c_str()) / static_cast<double>(sysconf(_SC_CLK_TCK));
  return std::max(0.0, uptime - started);
}

double time_limit_seconds(const TrainOptions& train, Log& log) {
  if (const auto* minutes = std::get_if<double>(&train.time_limit_minutes)) return *minutes * 60.0;
  if (std::get<TimeLimit>(train.time_limit_minutes) == TimeLimit::kNever) return 0.0;
  const double left = slurm_seconds_left();
  if (left < 0.0) {
    log.warn("train.time_limit_minutes = auto, but no Slurm job tells its end; no limit is set");
    return 0.0;
  }
  return process_age_seconds() + left;
}

}  // namespace lockstep
