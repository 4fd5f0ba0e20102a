// `lockstep export`: judges a model, writes it in a form that other programs load, opens what was
// written as `eval` would, judges that too, and only then gives it its name.
#include "app/export_command.h"

#include "app/model_source.h"
#include "app/progress_bar.h"
#include "app/rank_zero.h"
#include "app/signals.h"
#include "app/version.h"
#include "formats/export.h"
#include "formats/export_staging.h"
#include "formats/foreign_model.h"
#include "formats/gguf_export.h"
#include "trainer/training_state.h"

#include <CLI/CLI.hpp>

#include <filesystem>
#include <memory>

namespace lockstep {
namespace {

struct ExportArguments {
  std::string model;
  std::string out;
  std::string format;
  std::string dtype;
  std::string quantize = "none";
  std::vector<std::string> data;
  std::string tokenizer;
  std::string tokenizer_pre;
  std::string device = "auto";
  bool overwrite = false;

  bool gguf() const { return format == "gguf"; }
  ExportKind kind() const { return gguf() ? ExportKind::kFile : ExportKind::kDirectory; }
};

// int8 becomes the format's own; combinations that do not exist are refused.
void resolve_scheme(ExportArguments& arguments) {
  std::string& scheme = arguments.quantize;
  if (scheme == "int8") scheme = arguments.gguf() ? "q8_0" : "w8a16";
  if (scheme == "q8_0" && !arguments.gguf()) {
    fail(ExitCode::kUsage,
         "--quantize q8_0: is a type of GGUF; use --format gguf, or --quantize w8a16 or w8a8");
  }
  if (scheme.starts_with("w8") && arguments.gguf()) {
    fail(ExitCode::kUsage,
         "--quantize {}: is a scheme of safetensors; use --format safetensors, or --quantize q8_0",
         scheme);
  }
  if (!arguments.tokenizer_pre.empty() && !arguments.gguf()) {
    fail(ExitCode::kUsage, "--tokenizer-pre: names llama.cpp's pre-tokenizer; use --format gguf");
  }
  while (arguments.out.size() > 1 && arguments.out.ends_with('/')) arguments.out.pop_back();
}

// Judges models on the same data in the same way; collective.
class Judge {
 public:
  Judge(Session& session, const ModelSource& source, const std::vector<std::string>& data)
      : session_(session), batch_(source.options.train.micro_batch_size) {
    const ModelConfig& config = source.options.model;
    seq_len_ = source.judged_seq_len();
    if (data.empty()) return;
    data_ = std::make_unique<Dataset>(data, "val", seq_len_, config.vocab, source.options.run.seed);
  }

  std::int64_t seq_len() const { return seq_len_; }

  std::optional<Evaluation> run(const ModelConfig& config, const std::string& dtype,
                                bool int8_activations, WeightSource& weights) const {
    if (data_ == nullptr) return std::nullopt;
    PrecisionOptions precision;
    precision.dtype = dtype;
    ModelPlan plan;
    plan.mode = ModelPlan::Mode::kInference;
    plan.dtype = compute_dtype(precision);
    plan.batch = batch_;
    plan.seq_len = seq_len_;
    plan.int8_activations = int8_activations;
    Arena arena(*session_.device);
    Stream stream(*session_.device, "export");
    const auto model = make_model(config, plan, arena, &session_.device->kernels().scratch_bytes);
    agree(*session_.world, [&] { load_weights(weights, model->parameters(), stream); });
    Evaluator evaluator(arena, *session_.device, plan.batch, plan.seq_len);
    const auto result = evaluator.run(
        *model, *data_, /*samples=*/0, *session_.world, [] { return stop_requested() != 0; },
        stream);
    if (!result) fail_together(ExitCode::kInterrupted, "interrupted: nothing was written");
    return result;
  }

 private:
  Session& session_;
  std::int64_t batch_;
  std::int64_t seq_len_ = 0;
  std::unique_ptr<Dataset> data_;
};

// Optional for safetensors: weights alone are of use there.
std::unique_ptr<Tokenizer> tokenizer_for(ModelSource& source, const ExportArguments& arguments,
                                         Log& log) {
  const bool none =
      arguments.tokenizer.empty() && source.tokenizer == nullptr && source.tokenizer_error.empty();
  if (!none || arguments.gguf()) return tokenizer_of(source, arguments.tokenizer);
  log.info("warning: {} carries no tokenizer, so the export has none; give one with --tokenizer",
           source.description);
  return nullptr;
}

GgufType gguf_type(const std::string& dtype, const std::string& scheme) {
  if (scheme == "q8_0") return GgufType::kQ8_0;
  if (dtype == "bf16") return GgufType::kBF16;
  return dtype == "fp16" ? GgufType::kF16 : GgufType::kF32;
}

// "runs/tiny/" and its checkpoints are all called as the run is.
std::string model_name(const ModelSource& source, const ExportArguments& arguments) {
  if (!source.options.run.name.empty()) return source.options.run.name;
  std::filesystem::path path = std::filesystem::path(arguments.model).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();
  return path.stem().string();
}

// Rank 0's part before the files are judged.
void write_files(const std::string& path, const ExportModel& model, const ModelSource& source,
                 const ExportArguments& arguments, ExportReport& report,
                 const std::function<void()>& tick) {
  ProgressBar bar("writing");
  const auto progress = [&](std::int64_t done, std::int64_t total) {
    tick();
    bar.show(done, total);
  };
  if (arguments.gguf()) {
    const GgufExport gguf{.config = model.config,
                          .name = model_name(source, arguments),
                          .type = gguf_type(report.dtype, report.scheme),
                          .tokenizer_pre = arguments.tokenizer_pre,
                          .tokenizer = model.tokenizer};
    report.fallbacks = write_gguf(path, gguf, *model.weights, progress).as_f16;
    report.files = {{std::filesystem::path(arguments.out).filename().string(),
                     static_cast<std::int64_t>(std::filesystem::file_size(path)),
                     sha256_file(path)}};
    return;
  }
  const HuggingFaceOptions options{
      .dtype = report.dtype, .quantize = report.scheme, .progress = progress};
  require_free_space(std::filesystem::path(path).parent_path().string(),
                     hugging_face_bytes(model.config, options));
  make_directories(path);
  write_hugging_face(path, model, options);
  report.files = hash_files(path);
}

// The name of the report: inside a directory, beside a file.
void publish(ExportStaging& staging, const std::string& path, const ExportArguments& arguments,
             const ExportReport& report) {
  const std::string text = export_report_text(report);
  const std::string& out = arguments.out;
  if (!arguments.gguf()) {
    write_new_file(path + "/export.json", text);
    staging.publish("model", out);
    return;
  }
  // A report without its file says nothing wrong; one of another file would.
  std::error_code ignored;
  std::filesystem::remove(out + ".export.json", ignored);
  write_new_file(staging.path("report"), text);
  staging.publish("model", out);
  staging.publish("report", out + ".export.json");
}

void print_summary(const ExportReport& report, const ExportArguments& arguments) {
  fmt::print("{} -> {} ({}, {}, {}): {} in {} file{}, {} parameters\n", report.source,
             arguments.out, report.format, report.scheme, report.dtype, bytes_text(report.bytes()),
             report.files.size(), report.files.size() == 1 ? "" : "s", report.parameters);
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
  fmt::print("report: {}\n",
             arguments.gguf() ? arguments.out + ".export.json" : arguments.out + "/export.json");
}

ExportReport begin_report(const ModelSource& source, const ExportArguments& arguments) {
  ExportReport report;
  report.format = arguments.format;
  report.scheme = arguments.quantize;
  report.dtype = arguments.dtype.empty() ? source.options.precision.dtype : arguments.dtype;
  report.source = source.description;
  if (source.reader != nullptr) report.state_digest = source.reader->digest();
  report.parameters = parameter_count(source.options.model);
  report.data = arguments.data.empty() ? source.options.data.val : arguments.data;
  report.versions = {library_versions().front()};
  return report;
}

int run_export(ExportArguments arguments, MpiSession& mpi) {
  resolve_scheme(arguments);
  RunOptions run;
  run.device = arguments.device;
  Session session = open_session(mpi, run, CommOptions{});
  World& world = *session.world;
  ModelSource source = open_model_source(arguments.model, /*what=*/"", world, session.log);
  ExportReport report = begin_report(source, arguments);
  ExportModel model{source.options.model, source.weights.get(), nullptr};
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Judge> judge;
  std::unique_ptr<ExportStaging> staging;
  agree(world, [&] {
    if (!arguments.gguf()) check_hugging_face(model.config, arguments.quantize);
    check_export_target(arguments.out, arguments.kind(), arguments.overwrite);
    tokenizer = tokenizer_for(source, arguments, session.log);
    model.tokenizer = tokenizer.get();
    judge = std::make_unique<Judge>(session, source, report.data);
    // Before the long work: what cannot be written is known now.
    if (world.rank() == 0) staging = std::make_unique<ExportStaging>(arguments.out);
  });
  report.seq_len = judge->seq_len();
  report.before = judge->run(model.config, source.options.precision.dtype, source.int8_activations,
                             *source.weights);

  std::string path;
  on_rank_zero(world, [&](const std::function<void()>& tick) {
    path = staging->path("model");
    write_files(path, model, source, arguments, report, tick);
  });
  path = world.broadcast(path, /*root=*/0);
  ForeignModel written;
  agree(world, [&] { written = arguments.gguf() ? open_gguf(path) : open_hugging_face(path); });
  report.after =
      judge->run(written.config, written.dtype, written.int8_activations, *written.weights);
  agree(world, [&] {
    if (world.rank() == 0) publish(*staging, path, arguments, report);
  });
  if (world.rank() == 0) print_summary(report, arguments);
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace

Command add_export_command(CLI::App& app) {
  auto arguments = std::make_shared<ExportArguments>();
  CLI::App* parser = app.add_subcommand("export", "Write weights that other programs load");
  parser->add_option("MODEL", arguments->model, kModelHelp)->required();
  parser->add_option("--out", arguments->out, "Directory (safetensors) or file (gguf) to write")
      ->required();
  parser
      ->add_option("--format", arguments->format,
                   "safetensors (transformers, vLLM) or gguf (llama.cpp)")
      ->required()
      ->check(CLI::IsMember({"safetensors", "gguf"}));
  parser
      ->add_option("--dtype", arguments->dtype,
                   "fp32, bf16 or fp16, for what is not quantized (default: as trained)")
      ->check(CLI::IsMember({"fp32", "bf16", "fp16"}));
  parser
      ->add_option("--quantize", arguments->quantize,
                   "none; gguf: q8_0; safetensors: w8a16 (int8 weights) or w8a8 (and int8 inputs "
                   "per token); int8 = q8_0 or w8a16")
      ->check(CLI::IsMember({"none", "int8", "q8_0", "w8a16", "w8a8"}))
      ->capture_default_str();
  parser->add_option("--data", arguments->data,
                     "Shards to judge before and after (default: the run's data.val)");
  parser->add_option("--tokenizer", arguments->tokenizer,
                     "Tokenizer file or directory, or \"byte\" (default: the model's own)");
  parser->add_option("--tokenizer-pre", arguments->tokenizer_pre,
                     "gguf: llama.cpp's name of the pre-tokenizer (default: from the tokenizer)");
  parser->add_flag("--overwrite", arguments->overwrite, "Replace an earlier export");
  parser->add_option("--device", arguments->device, "auto, cpu or cuda; where it is judged")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  Command command;
  command.parser = parser;
  command.run = [arguments](MpiSession& mpi) { return run_export(*arguments, mpi); };
  command.polls_signals = true;
  return command;
}

}  // namespace lockstep
