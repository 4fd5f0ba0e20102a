// `lockstep prepare`: texts and JSON lines to token shards, with a progress bar on a terminal.
#include "app/commands.h"

#include "app/any_tokenizer.h"
#include "app/progress_bar.h"
#include "app/signals.h"
#include "core/error.h"
#include "core/shell_quote.h"
#include "data/prepare.h"

#include <fmt/core.h>

#include <filesystem>
#include <memory>
#include <string>

namespace lockstep {
namespace {

constexpr double kMib = 1024.0 * 1024.0;

void print_count(std::int64_t count, const char* what) {
  if (count > 0) fmt::print("{} {}\n", count, what);
}

void print_summary(const PrepareOptions& options, const PrepareResult& result) {
  fmt::print("{} documents, {:.1f} MiB of text, vocabulary {}\n", result.documents,
             static_cast<double>(result.bytes) / kMib, result.vocab);
  print_count(result.empty_documents, "empty documents left out");
  print_count(result.replaced, "halves of surrogate pairs became U+FFFD");
  print_count(result.dropped_bytes, "bytes left out: the vocabulary has no token for them");
  const std::string end = result.end_of_text.empty()
                              ? "documents follow each other without a token between them"
                              : fmt::format("each document ends with {}", result.end_of_text);
  fmt::print("{}; no beginning-of-text token is added{}\n", end,
             result.prefix.empty() ? "" : fmt::format(" (the tokenizer has {})", result.prefix));
  print_count(result.masked_tokens, "tokens of prompts are masked from the loss");
  fmt::print("train: {} tokens\nval:   {} tokens\n", result.train_tokens, result.val_tokens);
  for (const std::string& shard : result.shards) {
    std::error_code ignored;
    const auto bytes = std::filesystem::file_size(shard, ignored);
    fmt::print("  {}  {:.1f} MiB\n", shard, ignored ? 0.0 : static_cast<double>(bytes) / kMib);
  }
  const std::string data = list_item(options.out);
  fmt::print("next: lockstep train CONFIG.toml {}{}\n", shell_word("--data.train=" + data),
             result.val_tokens > 0 ? " " + shell_word("--data.val=" + data) : "");
}

PrepareResult prepare_with_progress(PrepareOptions& options) {
  ProgressBar bar("reading");
  options.on_progress = [&bar](std::int64_t done, std::int64_t total) {
    if (stop_requested() != 0) {
      fail(ExitCode::kInterrupted, "stopped by {}; nothing was written",
           signal_name(stop_requested()));
    }
    bar.show(done, total);
  };
  return prepare(options);
}

int run_prepare(PrepareOptions options) {
  const PrepareResult result = prepare_with_progress(options);
  print_summary(options, result);
  return 0;
}

void add_tokenizer_options(CommandFlags& flags, PrepareOptions& options) {
  flags
      .add("--tokenizer", &options.tokenizer,
           "byte; a tokenizer.json or a directory with one; a run, a checkpoint or a GGUF file; "
           "bpe:N trains one of N entries")
      .called("TEXT")
      .shows_default();
  flags
      .add("--pre-tokenizer", &options.pre_tokenizer,
           "how bpe:N cuts text into words: gpt2, qwen2, llama3 or deepseek (default gpt2)")
      .called("NAME");
  flags
      .add("--eos-token", &options.eos_token,
           "end-of-text token, put behind each document (default: what "
           "tokenizer_config.json names; <|endoftext|> for bpe:N; bytes have none)")
      .called("TEXT");
}

void add_split_options(CommandFlags& flags, PrepareOptions& options) {
  flags
      .add("--val-fraction", &options.val_fraction,
           "fraction of the documents held out for validation, from 0 to 1")
      .called("NUMBER")
      .within(0.0, 1.0)
      .shows_default();
  flags.add("--shard-tokens", &options.shard_tokens, "largest shard, in tokens")
      .called("INT")
      .positive()
      .shows_default();
}

}  // namespace

Command add_prepare_command(ProgramFlags& program) {
  CommandFlags flags = program.add_command("prepare", "Turn text into token shards");
  auto options = std::make_shared<PrepareOptions>();
  options->open = open_any_tokenizer;
  flags
      .add("TEXT", &options->inputs,
           "text files, one document each; .jsonl, one per line; .gz or .zst of both; - "
           "reads stdin")
      .required()
      .called("");
  flags.add("--out", &options->out, "directory to write shards and tokenizer to")
      .required()
      .called("DIR");
  add_tokenizer_options(flags, *options);
  flags
      .add("--text-field", &options->text_field,
           "member of a .jsonl line that holds its text; lines without it need prompt and "
           "completion")
      .called("NAME")
      .shows_default();
  add_split_options(flags, *options);
  flags.add("--threads", &options->threads, "encoder threads (0: one per core)")
      .called("INT")
      .at_least_zero()
      .shows_default();
  flags.add_switch("--overwrite", &options->overwrite, "replace what is in --out");
  return {.flags = flags,
          .run = [options](MpiSession&) { return run_prepare(*options); },
          .polls_signals = true};
}

}  // namespace lockstep
