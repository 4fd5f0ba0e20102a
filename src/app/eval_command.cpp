// `lockstep eval`: loss, perplexity and accuracy of a model on token shards, alone or beside
// another model; the ranks share the work.
#include "app/commands.h"

#include "app/command_words.h"
#include "app/model_source.h"
#include "app/signals.h"
#include "data/vocabulary_match.h"
#include "eval/judge.h"
#include "kernels/backend.h"
#include "trainer/training_state.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <memory>
#include <optional>

namespace lockstep {
namespace {

struct EvalArguments {
  std::string model;
  std::string reference;
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

nlohmann::json to_json(const Evaluation& result) {
  return {{"loss", result.loss},
          {"perplexity", result.perplexity()},
          {"accuracy", result.accuracy},
          {"tokens", result.tokens}};
}

std::string line_of(const Evaluation& result) {
  return fmt::format("loss {:.4f} | perplexity {:.3f} | accuracy {:.4f} | {} tokens", result.loss,
                     result.perplexity(), result.accuracy, result.tokens);
}

void print(const Evaluation& result, bool json) {
  fmt::print("{}\n", json ? to_json(result).dump() : line_of(result));
}

// "+0.0123 (+0.0110 to +0.0136)"
std::string text_of(const Estimate& estimate, double unit, int digits) {
  const std::string value = fmt::format("{:+.{}f}", estimate.value * unit, digits);
  if (!std::isfinite(estimate.within)) return value + " (no bounds from one sequence)";
  return fmt::format("{} ({:+.{}f} to {:+.{}f})", value, estimate.low() * unit, digits,
                     estimate.high() * unit, digits);
}

void print(const Comparison& result, bool json) {
  if (json) {
    nlohmann::json all = to_json(result.model);
    all["reference"] = to_json(result.reference);
    all.update(nlohmann::json::parse(comparison_json(result)));
    fmt::print("{}\n", all.dump());
    return;
  }
  fmt::print("model      {}\n", line_of(result.model));
  fmt::print("reference  {}\n", line_of(result.reference));
  fmt::print("change     loss {} | perplexity x {:.5f} | accuracy {} points\n",
             text_of(result.loss_change, 1.0, 5), result.perplexity_ratio(),
             text_of(result.accuracy_change, 100.0, 3));
  fmt::print(
      "divergence mean {:.6f} within {:.6f} | 99.9 % of tokens below {:.5f} | same most likely "
      "token {:.3f} %\n",
      result.divergence.value, result.divergence.within, result.divergence_999,
      100.0 * result.same_top);
}

JudgedModel judged(const ModelSource& source, const EvalArguments& arguments) {
  return {.config = source.options.model,
          .dtype = arguments.dtype.empty() ? source.options.precision.dtype
                                           : dtype_named(arguments.dtype).value(),
          .int8_activations = source.int8_activations,
          .weights = *source.weights,
          .name = source.description};
}

// Tokens must mean the same to both.
void require_comparable(const ModelSource& source, const ModelSource& reference,
                        const EvalArguments& arguments) {
  const ModelConfig& a = source.options.model;
  const ModelConfig& b = reference.options.model;
  if (a.vocab != b.vocab) {
    fail(ExitCode::kData, "--reference: {} has a vocabulary of {}, {} one of {}",
         reference.description, b.vocab, source.description, a.vocab);
  }
  if (judged_seq_len(source, arguments) > b.seq_len) {
    fail(ExitCode::kUsage, "--reference: the context of {} is {} tokens; give --seq-len {}",
         reference.description, b.seq_len, b.seq_len);
  }
  const Tokenizer* mine = source.tokenizer.get();
  const Tokenizer* other = reference.tokenizer.get();
  if (arguments.allow_other_tokenizer || mine == nullptr || other == nullptr) return;
  require_same_vocabulary(
      {*other, "of " + reference.description}, {*mine, "of " + source.description},
      {ExitCode::kData, "compare models of one tokenizer, or give --allow-other-tokenizer"});
}

template <typename Result>
void show(const std::optional<Result>& result, World& world, bool json) {
  if (!result) fail_together(ExitCode::kInterrupted, "interrupted: no result");
  if (world.rank() == 0) print(*result, json);
}

int run_eval(const EvalArguments& arguments, MpiSession& mpi) {
  RunOptions run;
  run.device = arguments.device;
  Session session = open_session(mpi, run, CommOptions{});
  ModelSource source = open_model_source(arguments.model, /*what=*/"", *session.world, session.log);
  ModelSource reference;
  if (!arguments.reference.empty()) {
    reference =
        open_model_source(arguments.reference, "--reference: ", *session.world, session.log);
    agree(*session.world, [&] { require_comparable(source, reference, arguments); });
  }
  if (!arguments.json) say_how_texts_begin(source, session.log);
  std::optional<Judge> judge;
  agree(*session.world, [&] { judge.emplace(make_judge(session, source, arguments)); });
  const JudgedModel model = judged(source, arguments);
  if (arguments.reference.empty()) {
    show(judge->run(model), *session.world, arguments.json);
  } else {
    show(judge->compare(model, judged(reference, arguments)), *session.world, arguments.json);
  }
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace

Command add_eval_command(ProgramFlags& program) {
  auto arguments = std::make_shared<EvalArguments>();
  CommandFlags flags = program.add_command("eval", "Loss, perplexity and next-token accuracy");
  flags.add("MODEL", &arguments->model, kModelHelp).required();
  flags.add("--reference", &arguments->reference,
            "Another model to compare with on the same tokens, of the same vocabulary");
  flags.add_list("--data", &arguments->data,
                 "Shards, globs or prepare directories (default: the run's data.val)");
  flags
      .add("--batches", &arguments->batches,
           "Batches of --micro-batch-size sequences to judge; 0 = all")
      .at_least_zero()
      .shows_default();
  flags
      .add("--micro-batch-size", &arguments->micro_batch_size,
           "Sequences per batch; 0 = the run's train.micro_batch_size, else 1")
      .at_least_zero()
      .shows_default();
  flags
      .add("--seq-len", &arguments->seq_len,
           "Tokens per sequence; 0 = as trained, for a model from elsewhere its context, at "
           "most 1024")
      .at_least_zero()
      .shows_default();
  flags.add("--device", &arguments->device, "auto, cpu or cuda")
      .one_of(device_names())
      .shows_default();
  flags.add("--dtype", &arguments->dtype, "fp32, bf16 or fp16 (default: as trained)")
      .one_of({"fp32", "bf16", "fp16"});
  flags.add_switch("--allow-other-tokenizer", &arguments->allow_other_tokenizer,
                   kAllowOtherTokenizerHelp);
  flags.add_switch("--json", &arguments->json, "One JSON object on standard output");
  Command command;
  command.flags = flags;
  command.run = [arguments](MpiSession& mpi) {
    return run_in_words_of(eval_words(), [&] { return run_eval(*arguments, mpi); });
  };
  command.polls_signals = true;
  return command;
}

}  // namespace lockstep
