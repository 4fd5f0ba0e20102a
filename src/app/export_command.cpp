// `lockstep export`: judges a model, writes it in a form that other programs load, opens what was
// written as `eval` would, judges that too, and only then gives it its name.
#include "app/commands.h"

#include "app/command_words.h"
#include "app/model_source.h"
#include "app/progress_bar.h"
#include "app/prune_source.h"
#include "app/rank_zero.h"
#include "app/signals.h"
#include "app/version.h"
#include "compress/scheme.h"
#include "compress/unit_rank.h"
#include "eval/judge.h"
#include "files/free_space.h"
#include "formats/foreign_model.h"
#include "formats/write_export.h"
#include "kernels/backend.h"
#include "trainer/training_state.h"

#include <cmath>
#include <filesystem>
#include <memory>
#include <optional>

namespace lockstep {
namespace {

struct ExportArguments {
  std::string model;
  ExportRequest request;
  PruneRequest pruning;
  std::vector<std::string> data;
  std::string tokenizer;
  std::string device = "auto";
  std::optional<double> max_accuracy_drop;     // points
  std::optional<double> max_perplexity_ratio;  // of after to before
  bool overwrite = false;

  bool has_limits() const { return max_accuracy_drop || max_perplexity_ratio; }
  bool allow_other_tokenizer = false;
};

// Null where there is nothing to judge on.
std::unique_ptr<Judge> make_judge(Session& session, const ModelSource& source,
                                  const std::vector<std::string>& shards, bool has_limits) {
  if (shards.empty() && has_limits) {
    fail(ExitCode::kUsage, "--data: give shards to hold the export to its limits on; {} had none",
         source.description);
  }
  if (shards.empty()) return nullptr;
  Dataset data(shards, "val", source.judged_seq_len(), source.options.model.vocab,
               source.options.run.seed);
  return std::make_unique<Judge>(*session.device, *session.world, std::move(data),
                                 JudgeOptions{.batch = source.options.train.micro_batch_size},
                                 [] { return stop_requested() != 0; });
}

template <typename Result>
std::optional<Result> unless_stopped(std::optional<Result> result) {
  if (!result) fail_together(ExitCode::kInterrupted, "interrupted: nothing was written");
  return result;
}

// How far the upper end of what a model may have lost (95 % confidence) goes beyond a limit: then
// nothing is published.
void require_within_limits(const Comparison& c, const ExportArguments& arguments) {
  const std::string& out = arguments.request.out;
  if (!std::isfinite(c.loss_change.within)) {
    fail(ExitCode::kData, "{}: --data has one sequence, too little to bound what was lost", out);
  }
  const double drop = -100.0 * c.accuracy_change.low();
  if (arguments.max_accuracy_drop && drop > *arguments.max_accuracy_drop) {
    fail(ExitCode::kData,
         "{}: accuracy changes by {:+.3f} points and may fall by {:.3f} (95 % bound), more than "
         "--max-accuracy-drop {}: nothing was published",
         out, 100.0 * c.accuracy_change.value, drop, *arguments.max_accuracy_drop);
  }
  const double ratio = std::exp(c.loss_change.high());
  if (arguments.max_perplexity_ratio && ratio > *arguments.max_perplexity_ratio) {
    fail(ExitCode::kData,
         "{}: perplexity becomes {:.5f} times the source's and may be {:.5f} times (95 % bound), "
         "more than --max-perplexity-ratio {}: nothing was published",
         out, c.perplexity_ratio(), ratio, *arguments.max_perplexity_ratio);
  }
}

// Optional for safetensors: weights alone are of use there.
std::unique_ptr<Tokenizer> tokenizer_for(ModelSource& source, const ExportArguments& arguments,
                                         Log& log) {
  const bool none =
      arguments.tokenizer.empty() && source.tokenizer == nullptr && source.tokenizer_error.empty();
  if (!none || arguments.request.gguf()) {
    return tokenizer_of(source, arguments.tokenizer, arguments.allow_other_tokenizer);
  }
  log.info("warning: {} carries no tokenizer, so the export has none; give one with --tokenizer",
           source.description);
  return nullptr;
}

// "runs/tiny/" and its checkpoints are all called as the run is.
std::string model_name(const ModelSource& source, const std::string& model) {
  if (!source.options.run.name.empty()) return source.options.run.name;
  std::filesystem::path path = std::filesystem::path(model).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();
  return path.stem().string();
}

ExportReport begin_report(const ModelSource& source, const ExportArguments& arguments) {
  ExportReport report;
  report.source = source.description;
  if (source.reader != nullptr) report.state_digest = source.reader->digest();
  report.data = arguments.data.empty() ? source.options.data.val : arguments.data;
  report.seq_len = source.judged_seq_len();
  report.versions = {library_versions().front()};
  return report;
}

void print_pruning(const PruningReport& pruning) {
  std::string what;
  const auto add = [&](const PruningReport::Change& change, const char* name) {
    if (change.after == change.before) return;
    what += fmt::format("{} of {} {}, ", change.after, change.before, name);
  };
  add(pruning.ffn, "feed-forward channels");
  add(pruning.heads, "heads");
  add(pruning.kv_heads, "key and value heads");
  fmt::print("pruned: {}in every layer | {} | {} | {} tokens\n", what, pruning.rank,
             pruning.reconstruct, pruning.tokens);
}

void print_summary(const ExportReport& report, const ExportRequest& request) {
  fmt::print("{} -> {} ({}, {}, {}): {} in {} file{}, {} parameters\n", report.source, request.out,
             report.format, report.scheme, report.dtype, bytes_text(report.bytes()),
             report.files.size(), report.files.size() == 1 ? "" : "s", report.parameters);
  if (report.pruning) print_pruning(*report.pruning);
  for (const std::string& name : report.fallbacks) {
    fmt::print("{}: stored as F16, because its rows are no multiple of 32\n", name);
  }
  if (report.before && report.after) {
    fmt::print("loss {:.4f} -> {:.4f} | perplexity {:.3f} -> {:.3f} ({:+.3f} %) | {} tokens\n",
               report.before->loss, report.after->loss, report.before->perplexity(),
               report.after->perplexity(), report.perplexity_change(), report.after->tokens);
  } else {
    fmt::print("not judged: give shards with --data\n");
  }
  if (report.comparison) {
    const Comparison& c = *report.comparison;
    fmt::print(
        "accuracy {:+.3f} points ({:+.3f} to {:+.3f}) | divergence {:.6f} | same most likely token "
        "{:.3f} %\n",
        100.0 * c.accuracy_change.value, 100.0 * c.accuracy_change.low(),
        100.0 * c.accuracy_change.high(), c.divergence.value, 100.0 * c.same_top);
  }
  fmt::print("report: {}\n", request.report_path());
}

WeightFormats formats_under(const ExportRequest& request) {
  return [scheme = request.scheme, plain = plain_format(dtype_named(request.dtype).value())](
             const Parameter& parameter) { return format_under(scheme, plain, parameter); };
}

constexpr const char* kStagedName = "model";

// Rank 0 has `staging` and writes; every rank learns the path.
std::string write_staged(const ExportStaging* staging, const ExportModel& model,
                         const ExportRequest& request, World& world, ExportReport& report) {
  std::string path;
  on_rank_zero(world, [&](const std::function<void()>& tick) {
    ProgressBar bar("writing");
    path = staging->path(kStagedName);
    write_export(path, model, request, report, [&](std::int64_t done, std::int64_t total) {
      tick();
      bar.show(done, total);
    });
  });
  return world.broadcast(path, /*root=*/0);
}

// Opens what was written as `eval` would, and judges that too.
void judge_written(const std::string& path, Judge* judge, const JudgedModel& original,
                   const ExportArguments& arguments, World& world, ExportReport& report) {
  ForeignModel written;
  agree(world,
        [&] { written = arguments.request.gguf() ? open_gguf(path) : open_hugging_face(path); });
  if (judge == nullptr) return;
  const JudgedModel exported{.config = written.config,
                             .dtype = dtype_named(written.dtype).value(),
                             .int8_activations = written.int8_activations,
                             .weights = *written.weights,
                             .name = arguments.request.out};
  report.after = unless_stopped(judge->run(exported));
  if (!arguments.has_limits()) return;
  report.comparison = unless_stopped(judge->compare(exported, original));
  agree(world, [&] { require_within_limits(*report.comparison, arguments); });
}

int run_export(ExportArguments arguments, MpiSession& mpi) {
  ExportRequest& request = arguments.request;
  resolve_export(request);
  RunOptions run;
  run.device = arguments.device;
  Session session = open_session(mpi, run, CommOptions{});
  World& world = *session.world;
  ModelSource source = open_model_source(arguments.model, /*what=*/"", world, session.log);
  const DType trained = source.options.precision.dtype;
  if (request.dtype.empty()) request.dtype = name_of(trained);
  request.name = model_name(source, arguments.model);
  request.formats = formats_under(request);
  ExportReport report = begin_report(source, arguments);
  ExportModel model{.config = source.options.model,
                    .weights = source.weights.get(),
                    .generation = source.generation,
                    .origin = source.description};
  PrunedSource pruned;
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Judge> judge;
  std::unique_ptr<ExportStaging> staging;
  agree(world, [&] {
    // Before the long work: what cannot be written is known now.
    if (arguments.pruning.asked()) {
      pruned = plan_pruning(source, arguments.pruning, !request.gguf(), report.data);
      model.config = pruned.config;
    }
    check_export(request, model.config, arguments.overwrite);
    tokenizer = tokenizer_for(source, arguments, session.log);
    model.tokenizer = tokenizer.get();
    if (!arguments.allow_other_tokenizer) {
      require_tokenizer_of_data(tokenizer.get(), source.description, report.data);
      require_tokenizer_of_data(tokenizer.get(), source.description, pruned.report.data);
    }
    judge = make_judge(session, source, report.data, arguments.has_limits());
    if (world.rank() == 0) staging = std::make_unique<ExportStaging>(request.out);
  });
  const JudgedModel original{.config = source.options.model,
                             .dtype = trained,
                             .int8_activations = source.int8_activations,
                             .weights = *source.weights,
                             .name = source.description};
  if (judge != nullptr) report.before = unless_stopped(judge->run(original));
  if (arguments.pruning.asked()) {
    prune_source(pruned, source, arguments.pruning.tokens, session);
    model.weights = pruned.weights.get();
    report.pruning = pruned.report;
  }

  const std::string path = write_staged(staging.get(), model, request, world, report);
  judge_written(path, judge.get(), original, arguments, world, report);
  agree(world, [&] {
    if (world.rank() == 0) publish_export(*staging, kStagedName, request, report);
  });
  if (world.rank() == 0) print_summary(report, request);
  return static_cast<int>(ExitCode::kDone);
}

void add_pruning_flags(CommandFlags& flags, PruneRequest& pruning) {
  flags
      .add("--prune", &pruning.what,
           "ffn=SHARE,heads=SHARE: take that share of every layer's feed-forward channels or heads "
           "out")
      .shows_default();
  flags
      .add("--rank", &pruning.rank,
           "How they are ranked: wanda (by weights and activations), l1, l2 or random")
      .one_of({std::begin(kUnitRanks), std::end(kUnitRanks)})
      .shows_default();
  flags
      .add("--reconstruct", &pruning.reconstruct,
           "What makes up for them: lsq (least squares for the weights that stay), bias or none")
      .one_of({std::begin(kReconstructions), std::end(kReconstructions)})
      .shows_default();
  flags.add_list("--calibration", &pruning.data,
                 "Shards to prune by, none of them judged (default: the run's data.train)");
  flags.add("--calibration-tokens", &pruning.tokens, "How many of their tokens")
      .positive()
      .shows_default();
}

}  // namespace

Command add_export_command(ProgramFlags& program) {
  auto arguments = std::make_shared<ExportArguments>();
  CommandFlags flags = program.add_command("export", "Write weights that other programs load");
  flags.add("MODEL", &arguments->model, kModelHelp).required();
  flags.add("--out", &arguments->request.out, "Directory (safetensors) or file (gguf) to write")
      .required();
  flags
      .add("--format", &arguments->request.format,
           "safetensors (transformers, vLLM) or gguf (llama.cpp)")
      .required()
      .one_of({"safetensors", "gguf"});
  flags
      .add("--dtype", &arguments->request.dtype,
           "fp32, bf16 or fp16, for what is not quantized (default: as trained)")
      .one_of({"fp32", "bf16", "fp16"});
  flags
      .add("--quantize", &arguments->request.scheme,
           "none; gguf: q8_0; safetensors: w8a16 (int8 weights) or w8a8 (and int8 inputs "
           "per token); int8 = q8_0 or w8a16")
      .one_of({"none", "int8", "q8_0", "w8a16", "w8a8"})
      .shows_default();
  add_pruning_flags(flags, arguments->pruning);
  flags.add_list("--data", &arguments->data,
                 "Shards to judge before and after (default: the run's data.val)");
  flags.add("--tokenizer", &arguments->tokenizer,
            "Tokenizer file or directory, or \"byte\" (default: the model's own)");
  flags.add("--tokenizer-pre", &arguments->request.tokenizer_pre,
            "gguf: llama.cpp's name of the pre-tokenizer (default: from the tokenizer)");
  flags.add_switch("--allow-other-tokenizer", &arguments->allow_other_tokenizer,
                   kAllowOtherTokenizerHelp);
  flags
      .add("--max-accuracy-drop", &arguments->max_accuracy_drop,
           "Publish nothing if accuracy may fall by more points (95 % bound)")
      .at_least_zero();
  flags
      .add("--max-perplexity-ratio", &arguments->max_perplexity_ratio,
           "Publish nothing if perplexity may become more times the source's (95 % bound)")
      .positive();
  flags.add_switch("--overwrite", &arguments->overwrite, "Replace an earlier export");
  flags.add("--device", &arguments->device, "auto, cpu or cuda; where it is judged")
      .one_of(device_names())
      .shows_default();
  Command command;
  command.flags = flags;
  command.run = [arguments](MpiSession& mpi) {
    return run_in_words_of(export_words(), [&] { return run_export(*arguments, mpi); });
  };
  command.polls_signals = true;
  return command;
}

}  // namespace lockstep
