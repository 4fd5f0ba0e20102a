// Finds out what a tokenizer is made of: a name, a file, a directory, or a table of tokens.
#include "data/tokenizer.h"

#include "core/error.h"
#include "core/utf8.h"
#include "data/bpe_file.h"
#include "data/bpe_tokenizer.h"
#include "data/byte_tokenizer.h"
#include "data/json_checks.h"
#include "data/pre_tokenizer.h"
#include "data/prepared.h"
#include "data/tokenizer_files.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <filesystem>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 1> kKinds = {"byte"};

// tokenizer.json and what stands beside it.
std::unique_ptr<Tokenizer> open_bpe(const fs::path& path, const std::string& eos_token) {
  return std::make_unique<BpeTokenizer>(read_tokenizer_files(path.string()), path.string(),
                                        eos_token);
}

[[noreturn]] void fail_no_eos(const std::string& eos_token) {
  fail(ExitCode::kUsage, "eos token '{}' is no token of the byte tokenizer, which has none",
       shown(eos_token));
}

std::unique_ptr<Tokenizer> open_directory(const fs::path& path, const std::string& eos_token) {
  std::error_code ignored;
  for (const fs::path& place : {path, path / kTokenizerDirectory}) {
    const fs::path file = place / kTokenizerJson;
    if (fs::exists(file, ignored)) return open_bpe(file, eos_token);
    const fs::path meta = place / kTokenizerMetaFile;
    if (!fs::exists(meta, ignored)) continue;
    auto tokenizer = open_byte_tokenizer(meta.string());
    if (!eos_token.empty()) fail_no_eos(eos_token);
    return tokenizer;
  }
  fail(ExitCode::kData,
       "{}: no tokenizer here (neither {} nor {}, also not in {}/); name another directory",
       path.string(), kTokenizerJson, kTokenizerMetaFile, kTokenizerDirectory);
}

[[noreturn]] void fail_unknown(const std::string& spec) {
  const std::string near = nearest(spec, kKinds);
  fail(ExitCode::kUsage,
       "unknown tokenizer '{}'{}; give byte, a tokenizer.json, or the directory of a tokenizer or "
       "of `lockstep prepare`",
       spec, near.empty() ? "" : "; did you mean '" + near + "'?");
}

void check_table(const TokenTable& table, const std::string& origin) {
  const auto& names = pre_tokenizer_names();
  if (std::find(names.begin(), names.end(), table.pre_tokenizer) == names.end()) {
    fail(ExitCode::kData, "{}: pre-tokenizer '{}' is not supported; known: {}", origin,
         shown(table.pre_tokenizer), fmt::join(names, ", "));
  }
  const auto check_text = [&](const std::string& text) {
    if (valid_stretch(text, 0) == text.size()) return;
    fail(ExitCode::kData, "{}: a token or merge is not UTF-8", origin);
  };
  for (const TokenTable::Entry& entry : table.entries) check_text(entry.text);
  for (const auto& [left, right] : table.merges) {
    check_text(left);
    check_text(right);
  }
  check_text(table.chat.standard);
  for (const auto& [name, text] : table.chat.named) {
    check_text(name);
    check_text(text);
  }
  const auto size = static_cast<std::int64_t>(table.entries.size());
  for (const std::int32_t id : {table.bos, table.eos}) {
    if (id < -1 || id >= size) {
      fail(ExitCode::kData, "{}: id {} of a special token; there are {} tokens", origin, id, size);
    }
  }
}

}  // namespace

void Tokenizer::save(const std::string& directory) const {
  write_tokenizer_files(directory, files());
}

void Tokenizer::save_hugging_face(const std::string& directory) const {
  write_tokenizer_files(directory, hugging_face_files());
}

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& spec, const std::string& eos_token) {
  if (spec == "byte") {
    if (!eos_token.empty()) fail_no_eos(eos_token);
    return make_byte_tokenizer();
  }
  std::error_code ignored;
  const fs::path path(spec);
  if (fs::is_directory(path, ignored)) return open_directory(path, eos_token);
  if (fs::exists(path, ignored)) return open_bpe(path, eos_token);
  if (spec.find('/') != std::string::npos || spec.ends_with(".json")) {
    fail(ExitCode::kData, "{}: no such tokenizer; give the path of one", spec);
  }
  fail_unknown(spec);
}

std::unique_ptr<Tokenizer> parse_tokenizer(const std::string& tokenizer_json,
                                           const std::string& tokenizer_config,
                                           const std::string& origin) {
  std::vector<NamedText> files = {{kTokenizerJson, tokenizer_json}};
  if (!tokenizer_config.empty()) files.push_back({kTokenizerConfig, tokenizer_config});
  return std::make_unique<BpeTokenizer>(std::move(files), origin, "");
}

std::unique_ptr<Tokenizer> make_tokenizer(const TokenTable& table, const std::string& origin) {
  check_table(table, origin);
  const std::string& name = table.pre_tokenizer;
  const std::string text = compose_tokenizer(table, pre_tokenizer_json(name), normalizer_json(name),
                                             table.ignore_merges);
  return parse_tokenizer(text, compose_config(table), origin);
}

}  // namespace lockstep
