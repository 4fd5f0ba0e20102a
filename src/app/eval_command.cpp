// `lockstep eval`: loss, perplexity and accuracy of a model on token shards; the ranks share the
// work.
#include "app/commands.h"

#include "app/command_line.h"
#include "app/command_words.h"
#include "app/model_source.h"
#include "app/signals.h"
#include "eval/judge.h"
#include "kernels/backend.h"
#include "trainer/training_state.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <memory>
#include <optional>

namespace lockstep {
namespace {

struct EvalArguments {
  std::string model;
  std::vector<std::string> data;
  std::int64_t batches = 0;
  std::int64_t micro_batch_size = 0;
  std::int64_t seq_len = 0;
  std::string device = "auto";
  std::string dtype;
  bool json = false;
  bool allow_other_tokenizer = false;
};

std::int64_t judged_seq_len(const ModelSource& source, const EvalArguments& arguments) {
  const std::int64_t wanted = arguments.seq_len > 0 ? arguments.seq_len : source.judged_seq_len();
  if (wanted <= source.options.model.seq_len) return wanted;
  fail(ExitCode::kUsage, "--seq-len {}: the model's context is {} tokens", wanted,
       source.options.model.seq_len);
}

Judge make_judge(Session& session, const ModelSource& source, const EvalArguments& arguments) {
  const auto& patterns = arguments.data.empty() ? source.options.data.val : arguments.data;
  if (patterns.empty()) {
    fail(ExitCode::kUsage, "--data: give shards to judge; {} had none to validate on",
         source.description);
  }
  if (!arguments.allow_other_tokenizer) {
    require_tokenizer_of_data(source.tokenizer.get(), source.description, patterns);
  }
  Dataset data(patterns, "val", judged_seq_len(source, arguments), source.options.model.vocab,
               source.options.run.seed);
  JudgeOptions options;
  options.batch = arguments.micro_batch_size > 0 ? arguments.micro_batch_size
                                                 : source.options.train.micro_batch_size;
  options.samples = arguments.batches * options.batch;
  return Judge(*session.device, *session.world, std::move(data), options,
               [] { return stop_requested() != 0; });
}

// Where the model's tokenizer puts a token before every text, and shards have none there.
void say_how_texts_begin(const ModelSource& source, Log& log) {
  if (source.tokenizer == nullptr || source.tokenizer->prefix_tokens().empty()) return;
  log.info(
      "texts begin with {} for this tokenizer; shards are judged as they are, and `prepare` "
      "puts none before documents",
      source.tokenizer->decode(source.tokenizer->prefix_tokens()));
}

void print(const Evaluation& result, const EvalArguments& arguments) {
  if (arguments.json) {
    fmt::print("{}\n", nlohmann::json({{"loss", result.loss},
                                       {"perplexity", result.perplexity()},
                                       {"accuracy", result.accuracy},
                                       {"tokens", result.tokens}})
                           .dump());
  } else {
    fmt::print("loss {:.4f} | perplexity {:.3f} | accuracy {:.4f} | {} tokens\n", result.loss,
               result.perplexity(), result.accuracy, result.tokens);
  }
}

int run_eval(const EvalArguments& arguments, MpiSession& mpi) {
  RunOptions run;
  run.device = arguments.device;
  Session session = open_session(mpi, run, CommOptions{});
  ModelSource source = open_model_source(arguments.model, /*what=*/"", *session.world, session.log);
  const DType dtype = arguments.dtype.empty() ? source.options.precision.dtype
                                              : dtype_named(arguments.dtype).value();
  if (!arguments.json) say_how_texts_begin(source, session.log);
  std::optional<Judge> judge;
  agree(*session.world, [&] { judge.emplace(make_judge(session, source, arguments)); });
  const auto result = judge->run({.config = source.options.model,
                                  .dtype = dtype,
                                  .int8_activations = source.int8_activations,
                                  .weights = *source.weights,
                                  .name = source.description});
  if (!result) fail_together(ExitCode::kInterrupted, "interrupted: no result");
  if (session.world->rank() == 0) print(*result, arguments);
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace

Command add_eval_command(CLI::App& app) {
  auto arguments = std::make_shared<EvalArguments>();
  CLI::App* parser = app.add_subcommand("eval", "Loss, perplexity and next-token accuracy");
  parser->add_option("MODEL", arguments->model, kModelHelp)->required();
  add_list_option(*parser, "--data", arguments->data,
                  "Shards, globs or prepare directories (default: the run's data.val)");
  parser
      ->add_option("--batches", arguments->batches,
                   "Batches of --micro-batch-size sequences to judge; 0 = all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  parser
      ->add_option("--micro-batch-size", arguments->micro_batch_size,
                   "Sequences per batch; 0 = the run's train.micro_batch_size, else 1")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  parser
      ->add_option(
          "--seq-len", arguments->seq_len,
          "Tokens per sequence; 0 = as trained, for a model from elsewhere its context, at "
          "most 1024")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  parser->add_option("--device", arguments->device, "auto, cpu or cuda")
      ->check(CLI::IsMember(device_names()))
      ->capture_default_str();
  parser->add_option("--dtype", arguments->dtype, "fp32, bf16 or fp16 (default: as trained)")
      ->check(CLI::IsMember({"fp32", "bf16", "fp16"}));
  parser->add_flag("--allow-other-tokenizer", arguments->allow_other_tokenizer,
                   kAllowOtherTokenizerHelp);
  parser->add_flag("--json", arguments->json, "One JSON object on standard output");
  Command command;
  command.parser = parser;
  command.run = [arguments](MpiSession& mpi) {
    return run_in_words_of(eval_words(), [&] { return run_eval(*arguments, mpi); });
  };
  command.polls_signals = true;
  return command;
}

}  // namespace lockstep
