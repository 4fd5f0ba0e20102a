// Equal files are equal vocabularies: most need not be parsed a second time.
#include "data/vocabulary_match.h"

#include "data/prepared.h"
#include "data/tokenizer_files.h"

#include <algorithm>
#include <filesystem>

namespace lockstep {
namespace {

std::string described(const TokenizerOf& one) {
  return fmt::format("{} ({}, {} entries)", one.where, one.tokenizer.name(),
                     one.tokenizer.vocab_size());
}

bool has_same_file(const Tokenizer& tokenizer, const std::string& directory) {
  const std::string path = (std::filesystem::path(directory) / kTokenizerJson).string();
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return false;
  const std::vector<NamedText> ours = tokenizer.files();
  const std::vector<NamedText> theirs = read_tokenizer_files(path);
  const std::string* text = find_text(ours, kTokenizerJson);
  return text != nullptr && *text == *find_text(theirs, kTokenizerJson);
}

std::unique_ptr<Tokenizer> open_if_possible(const std::string& directory) {
  try {
    return open_tokenizer(directory);
  } catch (const UserError&) {
    return nullptr;
  }
}

}  // namespace

void require_same_vocabulary(const TokenizerOf& first, const TokenizerOf& second,
                             const MismatchError& error) {
  const std::string difference =
      vocabulary_difference(first.tokenizer.table(), second.tokenizer.table());
  if (difference.empty()) return;
  fail(error.code, "two tokenizers, the first {}, the second {}: {}; {}", described(first),
       described(second), difference, error.remedy);
}

void require_vocabulary_of_shards(const TokenizerOf& wanted,
                                  const std::vector<std::string>& patterns, const std::string& key,
                                  const MismatchError& error) {
  for (const std::string& directory : tokenizer_directories(patterns)) {
    if (has_same_file(wanted.tokenizer, directory)) continue;
    const std::unique_ptr<Tokenizer> found = open_if_possible(directory);
    if (found == nullptr) continue;
    require_same_vocabulary({*found, fmt::format("{} of {}", directory, key)}, wanted, error);
  }
}

}  // namespace lockstep
