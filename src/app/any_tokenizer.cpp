// Checkpoints and exports are directories with tokenizer files, which the data room opens itself.
#include "app/any_tokenizer.h"

#include "core/error.h"
#include "formats/foreign_model.h"
#include "io/checkpoint.h"

#include <algorithm>
#include <filesystem>

namespace lockstep {
namespace {

std::unique_ptr<Tokenizer> tokenizer_in_gguf(const std::string& path) {
  ForeignModel model = open_gguf(path);
  if (model.tokenizer != nullptr) return std::move(model.tokenizer);
  fail(ExitCode::kData, "{}",
       model.tokenizer_error.empty() ? path + ": this GGUF file brings no tokenizer; name another"
                                     : model.tokenizer_error);
}

std::unique_ptr<Tokenizer> with_end_of_text(const Tokenizer& tokenizer, const std::string& text,
                                            const std::string& origin) {
  TokenTable table = tokenizer.table();
  const auto found =
      std::find_if(table.entries.begin(), table.entries.end(),
                   [&](const TokenTable::Entry& entry) { return entry.text == text; });
  if (found == table.entries.end() || tokenizer.name() == "byte") {
    fail(ExitCode::kUsage, "eos token '{}' is no token of {}; name one that is", text, origin);
  }
  table.eos = static_cast<std::int32_t>(found - table.entries.begin());
  return make_tokenizer(table, origin);
}

}  // namespace

std::unique_ptr<Tokenizer> open_any_tokenizer(const std::string& spec,
                                              const std::string& eos_token) {
  if (is_gguf(spec)) {
    std::unique_ptr<Tokenizer> tokenizer = tokenizer_in_gguf(spec);
    return eos_token.empty() ? std::move(tokenizer) : with_end_of_text(*tokenizer, eos_token, spec);
  }
  const std::string checkpoints = spec + "/checkpoints";
  std::error_code ignored;
  if (!std::filesystem::is_directory(checkpoints, ignored)) return open_tokenizer(spec, eos_token);
  const std::vector<CheckpointEntry> entries = list_checkpoints(checkpoints);
  if (entries.empty()) {
    fail(ExitCode::kData, "{}: this run has saved no checkpoint yet, so no tokenizer", spec);
  }
  return open_tokenizer(entries.front().path, eos_token);
}

}  // namespace lockstep
