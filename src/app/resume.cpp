// The rules of checkpoint.resume, and of what is fixed on resume.
#include "app/resume.h"

#include "app/config.h"
#include "app/model_source.h"
#include "core/shell_quote.h"
#include "data/byte_tokenizer.h"
#include "data/tokenizer_files.h"
#include "trainer/verified_checkpoint.h"

#include <filesystem>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

std::string canonical(const std::string& path) {
  std::error_code error;
  const fs::path result = fs::weakly_canonical(path, error);
  return error ? path : result.string();
}

[[noreturn]] void fail_other_run(const Options& options, const std::string& why) {
  fail_together(ExitCode::kConfig,
                "run.dir {} already holds checkpoints {}; choose another directory, for example "
                "{}, or --checkpoint.resume=auto to go on with them",
                options.run.dir, why, shell_word("--run.dir=" + options.run.dir + "-2"));
}

void check_tokenizer(const CheckpointReader& reader, const DataTokenizer& now) {
  const std::string stored = reader.tokenizer_directory();
  if (stored.empty() || now.tokenizer == nullptr) return;
  const std::vector<NamedText> before = open_tokenizer(stored)->files();
  const std::vector<NamedText> files = now.tokenizer->files();
  for (const char* name : {kTokenizerMetaFile, kTokenizerJson, kTokenizerConfig, kSpecialTokens}) {
    const std::string* text = find_text(files, name);
    const std::string* old_text = find_text(before, name);
    const bool same =
        text == nullptr || old_text == nullptr ? text == old_text : *text == *old_text;
    if (same) continue;
    fail(ExitCode::kConfig,
         "the tokenizer is fixed on resume: {} of {} differs from {}/{} in the checkpoint; point "
         "data.tokenizer at the run's own tokenizer or start a new run.dir",
         name, now.where, stored, name);
  }
}

bool is_fixed(const std::string& key) {
  return key.rfind("model.", 0) == 0 || key == "run.seed" || key == "optimizer.name";
}

}  // namespace

ResumePoint find_resume_point(const Options& options, const std::string& checkpoints, World& world,
                              Log& log) {
  const std::string& mode = options.checkpoint.resume;
  ResumePoint point;
  point.reader = newest_valid_checkpoint(checkpoints, world, log);
  if (mode == "none") {
    if (point.reader != nullptr) fail_other_run(options, "and checkpoint.resume is none");
    return point;
  }
  if (point.reader != nullptr) point.started_from = point.reader->meta().started_from;
  if (mode == "auto") return point;

  std::unique_ptr<CheckpointReader> source =
      open_checkpoint(mode, "checkpoint.resume: ", world, log);
  const std::string source_path = canonical(source->path());
  if (point.reader != nullptr) {
    // Its own checkpoints, once it has some, count before the state that it started from.
    const bool own = point.started_from == source_path ||
                     point.started_from.rfind(canonical(mode) + "/", 0) == 0 ||
                     source_path.rfind(canonical(checkpoints) + "/", 0) == 0;
    if (!own) fail_other_run(options, "that did not start from " + mode);
    return point;
  }
  point.reader = std::move(source);
  point.started_from = source_path;
  return point;
}

std::vector<std::string> check_resume(const CheckpointReader& reader, const Options& options,
                                      const DataTokenizer& tokenizer,
                                      const std::string& data_fingerprint) {
  Options before;
  ConfigRegistry registry(before);
  registry.load_text(reader.meta().config, reader.path() + "/manifest.json (config)");
  std::vector<std::string> changes;
  std::string fixed;  // differences that cannot be, in one sentence
  for (const ConfigDifference& difference : config_differences(before, options)) {
    if (difference.key == "model.init_from") continue;  // not read any more
    if (is_fixed(difference.key)) {
      fixed += fmt::format("{}{} was {} and is {} now", fixed.empty() ? "" : ", ", difference.key,
                           difference.before, difference.after);
      continue;
    }
    changes.push_back(
        fmt::format("{}: {} -> {}", difference.key, difference.before, difference.after));
  }
  if (!fixed.empty()) {
    fail(ExitCode::kConfig,
         "fixed on resume, but changed since {} was written: {}; set back what you changed, or "
         "start a new run.dir",
         reader.path(), fixed);
  }
  check_tokenizer(reader, tokenizer);
  if (reader.meta().data_fingerprint != data_fingerprint && !options.data.allow_change) {
    fail(ExitCode::kConfig,
         "data.train has other content than when {} was written (fingerprint {} then, {} now); "
         "restore the data, or set data.allow_change=true",
         reader.path(), reader.meta().data_fingerprint, data_fingerprint);
  }
  return changes;
}

}  // namespace lockstep
