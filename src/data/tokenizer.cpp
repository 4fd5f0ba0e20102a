// Finds out what a tokenizer is made of: a name, a file, a directory, or a table of tokens.
#include "data/tokenizer.h"

#include "core/error.h"
#include "data/bpe_file.h"
#include "data/bpe_tokenizer.h"
#include "data/byte_tokenizer.h"
#include "data/file.h"
#include "data/json_checks.h"
#include "data/pre_tokenizer.h"
#include "data/prepared.h"
#include "data/utf8.h"

#include <algorithm>
#include <array>
#include <filesystem>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTokenizerFile = "tokenizer.json";
constexpr std::int64_t kTokenizerLimit = std::int64_t{256} << 20;
constexpr std::int64_t kConfigLimit = 16 << 20;
constexpr std::array<std::string_view, 1> kKinds = {"byte"};

std::string read_text(const fs::path& path, std::int64_t limit) {
  const OpenFile file = open_for_read(path.string(), "a tokenizer");
  if (file.bytes < 0 || file.bytes > limit) {
    fail(ExitCode::kData, "{}: {} bytes; no file of a tokenizer is that long or no file",
         path.string(), file.bytes);
  }
  std::string text(static_cast<std::size_t>(file.bytes), '\0');
  read_at(file.fd, text.data(), text.size(), 0, path.string());
  return text;
}

std::string read_if_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored) ? read_text(path, kConfigLimit) : "";
}

// tokenizer.json and what stands beside it.
std::unique_ptr<Tokenizer> open_bpe(const fs::path& path, const std::string& eos_token) {
  TokenizerTexts texts;
  texts.tokenizer = read_text(path, kTokenizerLimit);
  texts.config = read_if_there(path.parent_path() / "tokenizer_config.json");
  texts.special_tokens = read_if_there(path.parent_path() / "special_tokens_map.json");
  return std::make_unique<BpeTokenizer>(std::move(texts), path.string(), eos_token);
}

[[noreturn]] void fail_no_eos(const std::string& eos_token) {
  fail(ExitCode::kUsage, "eos token '{}' is no token of the byte tokenizer, which has none",
       shown(eos_token));
}

std::unique_ptr<Tokenizer> open_directory(const fs::path& path, const std::string& eos_token) {
  std::error_code ignored;
  for (const fs::path& place : {path, path / kTokenizerDirectory}) {
    const fs::path file = place / kTokenizerFile;
    if (fs::exists(file, ignored)) return open_bpe(file, eos_token);
    const fs::path meta = place / kTokenizerMetaFile;
    if (!fs::exists(meta, ignored)) continue;
    auto tokenizer = open_byte_tokenizer(meta.string());
    if (!eos_token.empty()) fail_no_eos(eos_token);
    return tokenizer;
  }
  fail(ExitCode::kData,
       "{}: no tokenizer here (neither {} nor {}, also not in {}/); name another directory",
       path.string(), kTokenizerFile, kTokenizerMetaFile, kTokenizerDirectory);
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
    fail(ExitCode::kData,
         "{}: pre-tokenizer '{}' is not supported; known: gpt2, qwen2, llama3, "
         "deepseek",
         origin, shown(table.pre_tokenizer));
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
  check_text(table.chat_template);
  const auto size = static_cast<std::int64_t>(table.entries.size());
  for (const std::int32_t id : {table.bos, table.eos}) {
    if (id < -1 || id >= size) {
      fail(ExitCode::kData, "{}: id {} of a special token; there are {} tokens", origin, id, size);
    }
  }
}

}  // namespace

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
  TokenizerTexts texts;
  texts.tokenizer = tokenizer_json;
  texts.config = tokenizer_config;
  return std::make_unique<BpeTokenizer>(std::move(texts), origin, "");
}

std::unique_ptr<Tokenizer> make_tokenizer(const TokenTable& table, const std::string& origin) {
  check_table(table, origin);
  const std::string& name = table.pre_tokenizer;
  const std::string text = compose_tokenizer(table, pre_tokenizer_json(name), normalizer_json(name),
                                             /*ignore_merges=*/name == "llama3");
  return parse_tokenizer(text, compose_config(table), origin);
}

}  // namespace lockstep
