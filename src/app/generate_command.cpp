// `lockstep generate`: samples text from a model, printed as it comes.
#include "app/commands.h"

#include "app/command_words.h"
#include "app/model_source.h"
#include "app/signals.h"
#include "data/tokenizer.h"
#include "eval/generate.h"
#include "kernels/backend.h"
#include "nn/load_weights.h"
#include "trainer/training_state.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <system_error>

namespace lockstep {
namespace {

struct GenerateArguments {
  std::string model;
  std::string prompt;
  std::string tokenizer;
  std::string device = "auto";
  bool allow_other_tokenizer = false;
  SamplingOptions sampling;
};

// As much context as this text can need, so that a model of a long context opens cheaply.
ModelPlan generation_plan(const ModelSource& source, std::size_t prompt, std::int64_t max_tokens) {
  const std::int64_t context = source.options.model.seq_len;
  const auto length = static_cast<std::int64_t>(prompt);
  ModelPlan plan;
  plan.mode = ModelPlan::Mode::kInference;
  plan.dtype = source.options.precision.dtype;
  plan.int8_activations = source.int8_activations;
  plan.seq_len =
      length >= context || max_tokens >= context - length ? context : length + max_tokens;
  plan.sequences = 1;
  plan.sequence_tokens = plan.seq_len;
  plan.head_chunks = plan.seq_len;  // only one row of logits is ever needed
  return plan;
}

// What the tokenizer puts before a text, as llama.cpp and transformers do, then the text; not twice
// where the prompt brings it along.
std::vector<std::int32_t> prompt_ids(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<std::int32_t> ids = tokenizer.prefix_tokens(), body;
  tokenizer.encode(text, body);
  if (body.size() >= ids.size() && std::equal(ids.begin(), ids.end(), body.begin())) return body;
  ids.insert(ids.end(), body.begin(), body.end());
  return ids;
}

// At once, as a reader follows it. Throws std::system_error when nobody can read it any more.
void write_out(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  if (std::fflush(stdout) != 0) {
    throw std::system_error(errno, std::generic_category(), "standard output");
  }
}

int run_generate(const GenerateArguments& arguments, MpiSession& mpi) {
  RunOptions run;
  run.device = arguments.device;
  Session session = open_session(mpi, run, CommOptions{});
  ModelSource source = open_model_source(arguments.model, /*what=*/"", *session.world, session.log);
  std::unique_ptr<Tokenizer> tokenizer;
  std::vector<std::int32_t> prompt;
  agree(*session.world, [&] {
    tokenizer = tokenizer_of(source, arguments.tokenizer, arguments.allow_other_tokenizer);
    prompt = prompt_ids(*tokenizer, arguments.prompt);
    if (prompt.empty()) fail(ExitCode::kUsage, "--prompt: give at least one character");
  });
  if (session.world->rank() != 0) return static_cast<int>(ExitCode::kDone);

  const ModelPlan plan = generation_plan(source, prompt.size(), arguments.sampling.max_tokens);
  Arena arena(*session.device);
  Stream stream(*session.device, "generate");
  const auto model =
      make_model(source.options.model, plan, arena, &session.device->kernels().scratch_bytes);
  load_weights(model->parameters(), *source.weights, source.description, stream);
  SamplingOptions sampling = arguments.sampling;
  sampling.stop_tokens = source.generation.eos;
  sampling.stop_tokens.push_back(tokenizer->end_of_text());  // as training separates documents
  const auto print = [&](std::int32_t token) {
    write_out(tokenizer->decode({token}));
    return stop_requested() == 0;
  };
  write_out(arguments.prompt);
  generate(*model, arena, prompt, sampling, print, stream);
  std::fputc('\n', stdout);
  return static_cast<int>(ExitCode::kDone);
}

}  // namespace

Command add_generate_command(ProgramFlags& program) {
  auto arguments = std::make_shared<GenerateArguments>();
  CommandFlags flags = program.add_command("generate", "Sample text from a model");
  SamplingOptions& sampling = arguments->sampling;
  flags.add("MODEL", &arguments->model, kModelHelp).required();
  flags.add("--prompt", &arguments->prompt, "Text to continue").required();
  flags.add("--max-tokens", &sampling.max_tokens, "Tokens to sample")
      .at_least_zero()
      .shows_default();
  flags
      .add("--temperature", &sampling.temperature,
           "Divides the logits before softmax; 0 = always the most likely token")
      .at_least_zero()
      .shows_default();
  flags.add("--top-k", &sampling.top_k, "Keep the K most likely tokens; 0 = all")
      .at_least_zero()
      .shows_default();
  flags
      .add("--top-p", &sampling.top_p,
           "Keep the most likely tokens that hold this probability; 1 = all")
      .within(0.0, 1.0)
      .shows_default();
  flags.add("--seed", &sampling.seed, "Same seed and prompt, same text").shows_default();
  flags.add("--tokenizer", &arguments->tokenizer,
            "Tokenizer directory or \"byte\" (default: the model's)");
  flags.add_switch("--allow-other-tokenizer", &arguments->allow_other_tokenizer,
                   kAllowOtherTokenizerHelp);
  flags.add("--device", &arguments->device, "auto, cpu or cuda")
      .one_of(device_names())
      .shows_default();
  Command command;
  command.flags = flags;
  command.run = [arguments](MpiSession& mpi) {
    return run_in_words_of(generate_words(), [&] { return run_generate(*arguments, mpi); });
  };
  command.polls_signals = true;
  return command;
}

}  // namespace lockstep
